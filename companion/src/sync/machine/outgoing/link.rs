//! The link to one unit: its cursor in each bucket, and messages in flight.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::record::{Position, RecordId};

use super::super::MessageId;

/// Most messages of ops that a link has in flight.
pub(crate) const FLIGHTS_MAX: usize = 8;
/// The pause before a cursor is stored again.
const STORE_AGAIN_MS: u64 = 5_000;

/// A message that waits for the broker's confirm.
#[derive(Debug)]
pub(super) struct Flight {
    /// The last op of each bucket in it.
    pub(super) through: Vec<(u8, Position)>,
    pub(super) ops: u64,
    pub(super) confirmed: bool,
}

/// The state of the link to one unit.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) is_up: bool,
    pub(super) paused_until_ms: u64,
    pub(super) pause_ms: u64,
    /// The last ops that the broker confirmed.
    pub(super) cursors: BTreeMap<u8, Position>,
    /// The last ops that were published, at or after the cursors.
    pub(super) sent: BTreeMap<u8, Position>,
    /// Buckets that may have ops after those sent.
    pub(super) dirty: BTreeSet<u8>,
    /// The bucket whose turn is next, so that busy buckets do not starve the others.
    pub(super) turn: u8,
    pub(super) flights: BTreeMap<MessageId, Flight>,
    /// Cursors that are not stored yet.
    pub(super) to_store: BTreeMap<u8, Position>,
    pub(super) storing: Option<BTreeMap<u8, Position>>,
    pub(super) store_at_ms: u64,
    /// When a cursor may be stored again because the ops before it did not leave the outbox.
    pub(super) store_again_ms: BTreeMap<u8, u64>,
    /// The largest message that the unit's broker takes, in bytes, once the broker reported it.
    pub(super) limit: Option<usize>,
    /// Whether the unit's companion knows that sequences can be passed.
    pub(super) knows_passed: bool,
    /// Records that are too large, with their size in a message.
    pub(super) unsendable: BTreeMap<RecordId, usize>,
}

impl Link {
    pub(super) fn can_send(&self, now_ms: u64) -> bool {
        self.is_up && self.paused_until_ms <= now_ms && self.flights.len() < FLIGHTS_MAX
    }

    /// The position after which this link reads a bucket.
    pub(super) fn after(&self, bucket: u8) -> Position {
        self.sent.get(&bucket).copied().unwrap_or_default()
    }

    /// Sends messages without a confirm again.
    pub(super) fn begin_again(&mut self) {
        let flights = std::mem::take(&mut self.flights);
        let through = flights.values().flat_map(|flight| &flight.through);
        self.dirty.extend(through.map(|(bucket, _)| *bucket));
        self.sent.clone_from(&self.cursors);
    }

    /// The store went back to an older copy of itself: the cursor counts ops that no longer exist.
    pub(super) fn forget_cursor(&mut self, bucket: u8) {
        self.begin_again();
        self.cursors.remove(&bucket);
        self.sent.remove(&bucket);
        self.to_store.remove(&bucket);
        self.dirty.insert(bucket);
    }

    /// No op is after the cursor, yet the outbox is not empty: the store may be an older copy
    /// without the stored cursor, so it is stored again. Only now and then, since another link may
    /// also be behind.
    pub(super) fn store_again(&mut self, bucket: u8, now_ms: u64) {
        let is_in_flight = |flight: &Flight| flight.through.iter().any(|(of, _)| *of == bucket);
        let Some(cursor) = self.cursors.get(&bucket).copied() else {
            return;
        };
        let at_ms = self.store_again_ms.get(&bucket).copied().unwrap_or(0);
        if at_ms > now_ms || self.flights.values().any(is_in_flight) {
            return;
        }
        self.store_again_ms.insert(bucket, now_ms + STORE_AGAIN_MS);
        self.to_store.entry(bucket).or_insert(cursor);
    }

    /// Buckets to read, in turn.
    pub(super) fn wanted(&self) -> impl Iterator<Item = u8> + '_ {
        let (before, after) = (self.dirty.range(..self.turn), self.dirty.range(self.turn..));
        after.chain(before).copied()
    }
}
