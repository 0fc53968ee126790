//! Damage to a simulated store.

use unitring_protocol::record::Version;

use super::broken::Broken;
use super::store::{Positions, Store};
use super::world::World;
use crate::replica::{Mark, Part};

impl Store {
    /// Loses the value of a record and keeps its mark, as a server that evicts does. Returns the version.
    pub(super) fn lose_value(&mut self, turn: usize) -> Option<Version> {
        let records = self
            .buckets
            .values_mut()
            .flat_map(|bucket| bucket.records.values_mut());
        let live = records.filter(|(mark, value)| value.is_some() && mark.expires_ms.is_none());
        let mut live: Vec<_> = live.collect();
        let turn = turn.checked_rem(live.len())?;
        let (mark, value) = live.get_mut(turn)?;
        *value = None;
        Some(mark.version.clone())
    }

    /// Forgets a record, and its part of the digest, without a trace.
    pub(super) fn damage(&mut self) {
        for bucket in self.buckets.values_mut() {
            let mut records = bucket.records.iter();
            let lasts = |mark: &Mark| mark.part() == Some(Part::Lasting);
            let live = records.find(|(_, (mark, _))| lasts(mark));
            if let Some(id) = live.map(|(id, _)| id.clone()) {
                return bucket.forget(&id);
            }
        }
    }

    /// Makes the digest of a bucket wrong.
    pub(super) fn spoil_digest(&mut self, turn: usize) {
        let Some(turn) = turn.checked_rem(self.buckets.len()) else {
            return;
        };
        if let Some(bucket) = self.buckets.values_mut().nth(turn) {
            *bucket.digests.entry(Part::Lasting).or_default() ^= 1;
        }
    }

    /// One bucket goes back to an older copy of it, as a shard of a cluster may.
    pub(super) fn with_bucket_of(&self, copy: &Self, number: u8) -> Self {
        let mut store = self.clone();
        store.buckets.remove(&number);
        let bucket = copy.buckets.get(&number);
        store
            .buckets
            .extend(bucket.map(|bucket| (number, bucket.clone())));
        for (unit, cursors) in &mut store.cursors {
            cursors.remove(&number);
            let cursor = copy.cursors.get(unit).and_then(|of| of.get(&number));
            cursors.extend(cursor.map(|cursor| (number, *cursor)));
        }
        store.seen.go_back(&copy.seen, number);
        store
    }
}

impl World {
    /// Where units do not wait for each other, each collects tombstones by its own clock.
    pub(super) fn collect_alone(&mut self, at: usize) {
        if self.broken != Broken::Rounds {
            return;
        }
        let before_ms = self.wall_ms(at).saturating_sub(self.rules.keep_ms);
        let store = &mut self.nodes[at].store;
        let numbers: Vec<u8> = store.buckets.keys().copied().collect();
        for number in numbers {
            store.collect(number, before_ms, &Positions::new());
        }
    }
}
