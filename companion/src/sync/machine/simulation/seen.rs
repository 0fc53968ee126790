//! What the judge of a run sees of a simulated store.

use std::collections::BTreeMap;

use unitring_protocol::record::{Position, Record, RecordId, Version};

use super::rows::Bucket;
use super::store::{Positions, Store};
use crate::replica::bounds::{EXACT_MAX, ahead};

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
        self.gone_before(u64::MAX)
    }

    /// Records that were gone before this moment and are not collected.
    pub(super) fn gone_before(&self, before_ms: u64) -> usize {
        let gone = self
            .buckets
            .values()
            .flat_map(|bucket| bucket.gone.values());
        gone.filter(|gone_ms| **gone_ms <= before_ms).count()
    }

    /// The version of a record that is there, deleted or not.
    pub(super) fn version(&self, number: u8, id: &RecordId) -> Option<Version> {
        let bucket = self.buckets.get(&number)?;
        bucket.records.get(id).map(|(mark, _)| mark.version.clone())
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

    /// Checks that Redis would round no number, and that peers take the clock of the next write.
    pub(super) fn check_numbers(&self, now_ms: u64) -> Result<(), String> {
        let unit = &self.rules.unit;
        for (number, bucket) in &self.buckets {
            let at = |position: &Position| [position.incarnation, position.sequence];
            let meta = [bucket.meta.own, bucket.meta.known];
            let positions = bucket.applied.values().chain(bucket.fence.values());
            let positions = positions.chain(&meta).flat_map(at);
            let marks = bucket.records.values().map(|(mark, _)| mark);
            let marks =
                marks.flat_map(|mark| [mark.version.clock.ms, mark.expires_ms.unwrap_or(0)]);
            if let Some(inexact) = positions.chain(marks).find(|number| *number >= EXACT_MAX) {
                return Err(format!("{unit}: bucket {number} has the number {inexact}"));
            }
            if let Some(ahead_ms) = ahead(bucket.meta.clock.ms, now_ms) {
                return Err(format!("{unit}: bucket {number} is {ahead_ms} ms ahead"));
            }
        }
        Ok(())
    }
}
