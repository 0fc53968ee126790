//! What the judge of a run sees of a simulated store.

use std::collections::BTreeMap;

use unitring_protocol::record::{Record, RecordId, Version};

use super::rows::Bucket;
use super::store::{Positions, Store};

impl Store {
    /// What a reader sees: neither tombstones nor expired records.
    pub(super) fn live(&self, now_ms: u64) -> BTreeMap<RecordId, Record> {
        let records = self.buckets.values().flat_map(Bucket::all);
        let live = records.filter(|record| record.live(now_ms).is_some());
        live.map(|record| (record.id.clone(), record)).collect()
    }

    /// The positions of each bucket, and its records that may be forgotten.
    pub(super) fn positions(&self) -> BTreeMap<u8, Positions> {
        let states = self.states(0).into_iter();
        states
            .map(|held| (held.state.bucket, held.state.positions))
            .collect()
    }

    pub(super) fn gone(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.gone.len()).sum()
    }

    /// Changes that did not know of each other, as they were seen here.
    pub(super) fn conflicts(&self) -> usize {
        self.buckets
            .values()
            .map(|bucket| bucket.conflicts.len())
            .sum()
    }

    pub(super) fn clock_ms(&self) -> u64 {
        let clocks = self.buckets.values().map(|bucket| bucket.meta.clock.ms);
        clocks.max().unwrap_or_default()
    }

    /// Whether it is there, or in an outbox still.
    pub(super) fn has(&self, version: &Version) -> bool {
        let mut buckets = self.buckets.values();
        buckets.any(|bucket| {
            let mut records = bucket.records.values();
            let mut outbox = bucket.outbox.values();
            records.any(|(mark, _)| mark.version == *version)
                || outbox.any(|(record, _)| record.version == *version)
        })
    }

    /// Whether it has the value that this version wrote.
    pub(super) fn has_value(&self, version: &Version) -> bool {
        let mut records = self
            .buckets
            .values()
            .flat_map(|bucket| bucket.records.values());
        records.any(|(mark, value)| mark.version == *version && value.is_some())
    }
}
