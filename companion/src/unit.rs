//! The state machine of a unit's sync. Pure: `input, now → effects`; no clock, no socket, no
//! randomness. [`crate::driver`] carries both.
//!
//! Invariants:
//! - an op leaves the outbox only after the broker confirmed a message with it;
//! - a delivery is acknowledged only after the store applied it;
//! - whatever is lost, repeated or reordered in between, digests find it and repair brings it.
//!
//! # Layout
//!
//! | module | arrow |
//! |---|---|
//! | [`message`] | bytes ⇄ envelope, with its rules |
//! | [`outgoing`] | outbox → messages → confirm → trim |
//! | [`incoming`] | deliveries → batches → acknowledgement |
//! | [`compare`] | their digests and ours → what differs |
//! | [`repair`] | what was asked for → records |

pub mod compare;
pub mod incoming;
pub mod message;
pub mod outgoing;
pub mod repair;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::digest::BucketState;
use unitring_protocol::envelope::{Body, Envelope};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Record};

use crate::store::{Applied, Batch, Page};
use compare::{Compare, Comparison};
use incoming::Incoming;
use outgoing::Outgoing;
use repair::Repairs;

/// How often the outboxes are counted; a bucket with ops that nobody told of is found then.
pub const COUNT_EVERY_MS: u64 = 1_000;
/// The pause before something is tried again.
pub const RETRY_MS: u64 = 500;

/// Names a delivery until it is acknowledged.
pub type Tag = u64;
/// Names a message until it is confirmed.
pub type MessageId = u64;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The broker is connected; everything is declared.
    LinkUp,
    /// It is not; whatever was not confirmed may or may not have arrived.
    LinkDown,
    /// Whether this companion leads those of its unit; at first it does.
    Leads(bool),
    /// Records of these buckets were written here.
    Written(BTreeSet<u8>),
    /// How many ops wait, by bucket; `None` if the store is away.
    Counted(Option<BTreeMap<u8, u64>>),
    /// The first ops of an outbox; `None` if the store is away.
    OutboxRead(u8, Option<Vec<Op>>),
    /// An outbox was trimmed, or not.
    Trimmed(u8, bool),
    /// The broker confirmed a message, or did not.
    Published(MessageId, bool),
    /// A message came in.
    Delivered(Tag, Envelope),
    /// A delivery was applied; `None` if it could not be.
    Applied(Tag, Option<Applied>),
    /// What this unit's buckets hold; `None` if the store is away.
    States(Purpose, Option<Vec<BucketState>>),
    /// Records of a bucket; `None` if the store is away.
    PageRead(Option<(Vec<Record>, Page)>),
    /// Time passed.
    Tick,
}

/// What is to be done. Each but the last three is answered by an [`Input`].
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Count the outboxes.
    Count,
    /// Read the first ops of an outbox.
    ReadOutbox(u8),
    /// Trim an outbox up to a sequence.
    Trim(u8, u64),
    /// Publish a message.
    Publish(MessageId, Route, Body),
    /// Apply a batch to a bucket, for a delivery.
    Apply(Tag, u8, Batch),
    /// Read what this unit's buckets hold.
    ReadStates(Purpose),
    /// Read records of a bucket.
    ReadPage(u8, Page),
    /// Acknowledge a delivery.
    Ack(Tag),
    /// Count something.
    Note(Note, u64),
    /// The status changed.
    Compared(UnitId, Comparison),
}

/// To whom a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To every other unit.
    All,
    /// To every other unit, and of no use after this many milliseconds.
    AllFor(u64),
    /// To one unit.
    One(UnitId),
}

/// What the buckets' states are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To tell the others.
    Tell,
    /// To compare with what another told.
    Compare,
    /// To send a bucket's records.
    Repair,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// Ops confirmed by the broker.
    OpsPublished,
    /// Messages not confirmed.
    PublishesFailed,
    /// Ops received.
    OpsReceived,
    /// Records changed by ops.
    RecordsApplied,
    /// Ops before which others are missing.
    Gaps,
    /// Batches that the store did not take.
    ApplyFailures,
    /// Buckets that differ at equal positions.
    Diverged,
    /// Buckets that are behind and stay there.
    Stalled,
    /// Records changed by a repair.
    Repaired,
    /// Repairs that were asked for beyond the bound, or could not be sent.
    RepairsDropped,
}

/// A unit's sync.
#[derive(Debug)]
pub struct Unit {
    digest_interval_ms: u64,
    is_up: bool,
    leads: bool,
    last_message: MessageId,
    outgoing: Outgoing,
    incoming: Incoming,
    compare: Compare,
    repairs: Repairs,
    count_at_ms: u64,
    tell_at_ms: u64,
    telling: Option<MessageId>,
}

impl Unit {
    /// The sync of this unit, with no link yet.
    pub fn new(unit: UnitId, digest_interval_ms: u64) -> Self {
        Self {
            compare: Compare::new(unit, digest_interval_ms),
            digest_interval_ms,
            is_up: false,
            leads: true,
            last_message: 0,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            repairs: Repairs::default(),
            count_at_ms: 0,
            tell_at_ms: 0,
            telling: None,
        }
    }

    /// What follows from what happened.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::LinkUp => self.link_up(now_ms, &mut effects),
            Input::LinkDown => self.link_down(),
            Input::Leads(leads) => self.leads(leads, &mut effects),
            Input::Written(buckets) => self.outgoing.dirty(buckets),
            Input::Counted(waiting) => {
                self.outgoing
                    .dirty(waiting.into_iter().flatten().map(|(bucket, _)| bucket));
            }
            Input::OutboxRead(bucket, ops) => {
                let id = self.next_message();
                self.outgoing
                    .read(bucket, ops, id, self.is_up, now_ms, &mut effects);
            }
            Input::Trimmed(bucket, done) => self.outgoing.trimmed(bucket, done, now_ms),
            Input::Published(id, confirmed) => self.published(id, confirmed, now_ms, &mut effects),
            Input::Delivered(tag, envelope) => self.delivered(tag, envelope, now_ms, &mut effects),
            Input::Applied(tag, applied) => {
                self.incoming.applied(tag, applied, now_ms, &mut effects);
            }
            Input::States(purpose, states) => self.states(purpose, states, now_ms, &mut effects),
            Input::PageRead(page) => {
                let id = self.next_message();
                self.repairs.page_read(page, id, now_ms, &mut effects);
            }
            Input::Tick => {}
        }
        self.go_on(now_ms, &mut effects);
        effects
    }

    /// Whatever is due, whatever happened.
    fn go_on(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.count_at_ms <= now_ms {
            self.count_at_ms = now_ms + COUNT_EVERY_MS;
            effects.push(Effect::Count);
        }
        self.incoming.go_on(now_ms, effects);
        if !self.is_up {
            return;
        }
        self.repairs.go_on(now_ms, effects);
        if !self.leads {
            return;
        }
        self.outgoing.go_on(now_ms, effects);
        if self.tell_at_ms <= now_ms {
            self.tell_at_ms = now_ms + self.digest_interval_ms;
            effects.push(Effect::ReadStates(Purpose::Tell));
        }
    }

    fn next_message(&mut self) -> MessageId {
        self.last_message += 1;
        self.last_message
    }

    fn link_up(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.is_up = true;
        // The count finds every outbox that has something: the sweep after a reconnect.
        self.count_at_ms = now_ms + COUNT_EVERY_MS;
        effects.push(Effect::Count);
    }

    /// One companion of a unit sends its ops and digests; each may be the one that is delivered to.
    fn leads(&mut self, leads: bool, effects: &mut Vec<Effect>) {
        if leads && !self.leads {
            effects.push(Effect::Count);
        }
        self.leads = leads;
    }

    fn link_down(&mut self) {
        self.is_up = false;
        self.telling = None;
        self.outgoing.link_down();
        // The broker delivers again whatever was not acknowledged.
        self.incoming.link_down();
        self.repairs.link_down();
    }

    fn published(
        &mut self,
        id: MessageId,
        confirmed: bool,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if !confirmed {
            effects.push(Effect::Note(Note::PublishesFailed, 1));
        }
        self.outgoing.published(id, confirmed, now_ms, effects);
        self.repairs.published(id, confirmed, now_ms, effects);
        if self.telling == Some(id) {
            self.telling = None;
        }
    }

    fn delivered(&mut self, tag: Tag, envelope: Envelope, now_ms: u64, effects: &mut Vec<Effect>) {
        let Envelope { from, body, .. } = envelope;
        match body {
            Body::Ops { bucket, ops } => {
                self.compare.ops_from(&from, now_ms);
                effects.push(Effect::Note(Note::OpsReceived, count(ops.len())));
                let batch = Batch::Ops { origin: from, ops };
                self.incoming.push(tag, bucket, batch);
            }
            Body::Repair {
                bucket,
                records,
                positions,
            } => {
                let batch = Batch::Records { records, positions };
                self.incoming.push(tag, bucket, batch);
            }
            Body::Digests { buckets } => {
                // Of no use twice: the next ones come soon.
                effects.push(Effect::Ack(tag));
                if self.compare.heard(from, buckets) {
                    effects.push(Effect::ReadStates(Purpose::Compare));
                }
            }
            Body::RepairRequest { buckets } => {
                // If this process dies before it answers, the asker asks again.
                effects.push(Effect::Ack(tag));
                let dropped = self.repairs.asked(&from, &buckets);
                effects.push(Effect::Note(Note::RepairsDropped, dropped));
            }
        }
    }

    fn states(
        &mut self,
        purpose: Purpose,
        states: Option<Vec<BucketState>>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        match purpose {
            Purpose::Tell => {
                if let (Some(buckets), true, None) = (states, self.is_up, self.telling) {
                    let id = self.next_message();
                    self.telling = Some(id);
                    let route = Route::AllFor(self.digest_interval_ms);
                    effects.push(Effect::Publish(id, route, Body::Digests { buckets }));
                }
            }
            Purpose::Compare => {
                for (from, buckets) in self.compare.compare(states, now_ms, effects) {
                    if self.is_up {
                        let id = self.next_message();
                        let body = Body::RepairRequest { buckets };
                        effects.push(Effect::Publish(id, Route::One(from), body));
                    }
                }
            }
            Purpose::Repair => self.repairs.states_read(states, now_ms, effects),
        }
    }
}

/// A number of things, for a counter.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
