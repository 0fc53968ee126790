//! The contract of every store. Each promise is a test of its own for the embedded store, in this crate, and for one
//! Redis, in the tests that start one (feature `contract-tests`); the other kinds of Redis run all of them in one test.
//!
//! A broken promise panics. It may build on the promises of its suite before it, which its test runs
//! first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken promise panics, and the names of promises are sentences"
)]

mod browse;
mod counters;
mod differential;
mod event_log;
mod fleet;
mod leadership;
mod names;
mod passing;
mod records;
mod stamps;

use std::any::Any;

use super::Store;

pub use differential::differential;
pub use event_log::event_logs_are_alike;
pub use fleet::{rest_is_the_sum, shared_fleet, shared_fleet_after_loss};
pub use leadership::leadership;
pub use names::NAMES;
pub use records::id;

/// The promises; their names describe them.
pub mod promises {
    pub use super::browse::*;
    pub use super::counters::*;
    pub use super::event_log::*;
    pub use super::fleet::*;
    pub use super::names::*;
    pub use super::passing::*;
    pub use super::records::*;
    pub use super::stamps::*;
}

/// Empty stores of units of these names, with peers; only `alone` has none.
pub struct Stores<S> {
    pub east: S,
    pub west: S,
    pub mine: S,
    pub north: S,
    pub named: S,
    pub logged: S,
    pub south: S,
    pub alone: S,
    /// The resource that has to outlast the stores: their folder, or their server.
    pub kept: Box<dyn Any + Send>,
}

impl<S> Stores<S> {
    /// Opens each by its unit's name and whether it has peers.
    ///
    /// # Errors
    /// The errors of `open`.
    pub fn open<E>(
        kept: Box<dyn Any + Send>,
        mut open: impl FnMut(&str, bool) -> Result<S, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            east: open("east", true)?,
            west: open("west", true)?,
            mine: open("mine", true)?,
            north: open("north", true)?,
            named: open("named", true)?,
            logged: open("logged", true)?,
            south: open("south", true)?,
            alone: open("alone", false)?,
            kept,
        })
    }
}

/// Hands the promises, suite by suite and with the stores that each takes, to a macro of this crate.
#[macro_export]
macro_rules! with_all_promises {
    ($macro:ident $($argument:tt)*) => {
        $crate::$macro! {
            [$($argument)*]
            records {
                a_write_is_read_back_with_its_version(east),
                versions_grow_even_if_the_clock_does_not(east),
                a_deleted_record_is_a_tombstone_and_cannot_be_deleted_again(east),
                a_write_is_made_only_if_what_is_there_is_what_must_be(east),
                the_digest_is_the_xor_of_all_shares(east),
                ops_wait_in_order(east),
                what_is_applied_is_the_same_there(east, west),
                a_repeated_batch_changes_nothing(east, west),
                an_older_version_changes_nothing_and_a_tie_goes_to_the_later_unit(west),
                a_gap_is_applied_but_not_claimed(west),
                a_claim_moves_positions_and_numbers_are_not_used_again(west),
                a_later_incarnation_begins_at_one(west),
                a_large_value_and_strange_keys_survive(east, west),
            }
            outbox {
                ops_leave_once_every_member_has_them(mine),
                an_outbox_is_shortened_from_its_beginning(mine),
                changes_that_did_not_know_of_each_other_are_told(mine),
                what_is_forgotten_does_not_come_back(mine),
                what_expires_leaves_the_digest_with_its_epoch(mine),
            }
            future {
                a_store_begun_in_the_future_is_led_back(north, logged),
                a_unit_that_took_changes_of_the_future_is_led_back_too(north, logged),
            }
            fleet {
                a_registration_is_created_changed_renewed_and_expires(north),
                an_order_to_drain_outlasts_heartbeats(north),
                a_report_is_taken_once_and_adds_its_growth(north),
                the_rest_is_what_the_loads_add_up_to(north),
                a_reporter_that_is_silent_is_no_longer_counted(north),
                a_service_is_forgotten_with_its_counters(north),
                who_is_wired_wrongly_is_told_while_it_is(north),
                events_are_read_on_from_a_cursor(north),
                failures_add_up_as_calls_do(north),
                a_report_of_huge_numbers_is_kept_as_what_can_be_true(north),
                counters_stay_at_the_top(north),
                counters_are_exact(north),
                all_counters_of_updates_add_up_and_have_a_rate(north),
                a_silent_service_is_forgotten_after_ten_minutes(north),
            }
            event_log {
                what_many_report_is_one_entry_with_their_number(logged),
                a_flap_has_an_entry_for_each_turn_in_whatever_order_it_is_told(logged),
                an_event_is_not_counted_across_what_is_forgotten(logged),
                other_events_lie_between_too_and_are_their_own(logged),
                a_reporter_without_room_is_left_out_and_still_counted_with_others(logged),
                the_log_has_so_many_bytes_and_the_oldest_entries_go(logged),
            }
            names {
                each_name_is_a_service_of_its_own(named),
            }
            updates {
                an_update_that_is_sent_again_changes_nothing(named),
                the_vm_decides_between_updates_of_one_moment(named),
                an_earlier_update_that_arrives_later_brings_nothing_back(named),
                an_update_sent_again_does_not_undo_what_came_between(named),
                so_many_sources_are_remembered_the_last_ones(named),
                an_hour_after_the_last_update_all_are_forgotten(named),
            }
            updates_alone {
                an_update_that_is_sent_again_changes_nothing(alone),
                the_vm_decides_between_updates_of_one_moment(alone),
                an_earlier_update_that_arrives_later_brings_nothing_back(alone),
                an_update_sent_again_does_not_undo_what_came_between(alone),
                so_many_sources_are_remembered_the_last_ones(alone),
                an_hour_after_the_last_update_all_are_forgotten(alone),
            }
            browse_alone {
                a_listing_names_what_is_live_once_and_nothing_else(alone),
                changes_are_numbered_and_the_oldest_are_forgotten(alone),
                what_expires_is_gone_for_reads_conditions_and_listings(alone),
            }
            browse {
                a_listing_names_what_is_live_once_and_nothing_else(south),
                changes_are_numbered_and_the_oldest_are_forgotten(south),
                what_expires_is_gone_for_reads_conditions_and_listings(south),
                an_expired_record_is_the_same_in_every_unit(south, alone),
                a_unit_alone_keeps_nothing_of_what_is_gone(south, alone),
                a_clock_a_year_ahead_frees_nothing_that_expires_later(south, alone),
                a_value_that_arrives_while_the_clock_is_ahead_is_kept(alone, south),
            }
        }
    };
}

/// Checks all promises on some [`Stores`], in order.
#[macro_export]
macro_rules! keep_promises {
    ([$stores:ident] $($suite:ident { $($promise:ident($($store:ident),*),)* })*) => {
        $($($crate::testing::contract::promises::$promise($(&$stores.$store),*).await;)*)*
    };
}

/// Makes a test of each promise: `$fresh` is an async function, by its full path, that answers [`Stores`].
#[macro_export]
macro_rules! test_promises {
    ([$fresh:path] $($suite:ident { $($promises:tt)* })*) => {
        $(mod $suite {
            $crate::test_promises_of_a_suite! { $fresh; []; $($promises)* }
        })*
    };
}

/// See [`test_promises`]: the promises before one, and the rest.
#[macro_export]
macro_rules! test_promises_of_a_suite {
    ($fresh:path; [$($before:tt)*];) => {};
    (
        $fresh:path;
        [$($before:ident($($of:ident),*),)*];
        $promise:ident($($store:ident),*), $($rest:tt)*
    ) => {
        #[tokio::test]
        async fn $promise() {
            let stores = $fresh().await;
            $($crate::testing::contract::promises::$before($(&stores.$of),*).await;)*
            $crate::testing::contract::promises::$promise($(&stores.$store),*).await;
        }
        $crate::test_promises_of_a_suite! {
            $fresh;
            [$($before($($of),*),)* $promise($($store),*),];
            $($rest)*
        }
    };
}

/// Checks all promises, in order.
pub async fn all<S: Store>(stores: &Stores<S>) {
    with_all_promises!(keep_promises stores);
}
