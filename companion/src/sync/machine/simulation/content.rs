//! The content of the buckets of a simulated store, as other units compare and repair it.

use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::record::{Record, RecordId};

use super::broken::Broken;
use super::rows::Bucket;
use super::store::{Positions, Store};
use crate::replica::bounds::ahead;
use crate::replica::digest::share;
use crate::replica::{Part, epoch};
use crate::store::{Held, Page};

/// Records in one page, small so that a bucket takes several.
const PAGE: usize = 2;

impl Store {
    pub(super) fn states(&self, now_ms: u64) -> Vec<Held> {
        let state = |(number, bucket): (&u8, &Bucket)| {
            let mut positions = bucket.applied.clone();
            let own = positions.entry(self.rules.unit.clone()).or_default();
            *own = bucket.meta.own.max(*own);
            positions.retain(|_, position| position.sequence > 0);
            let counts = |part: &Part| match part {
                Part::Lasting => true,
                Part::Epoch(of) => *of > epoch(now_ms),
            };
            let parts = bucket.digests.iter();
            let counted = parts.filter(|(part, _)| counts(part));
            let digest = counted.fold(0, |digest, (_, part)| digest ^ part);
            Held {
                state: BucketState {
                    bucket: *number,
                    digest: Digest(digest),
                    positions,
                },
                clock: bucket.meta.clock,
                gone_ms: bucket.gone.values().min().copied(),
            }
        };
        self.buckets.iter().map(state).collect()
    }

    pub(super) fn page(&self, number: u8, page: Page) -> (Vec<Record>, Page) {
        let bucket = self.buckets.get(&number);
        let from: usize = page.more.unwrap_or_default().parse().unwrap_or(0);
        let records = bucket.map_or(0, |bucket| bucket.records.len());
        let more = (from + PAGE < records).then(|| (from + PAGE).to_string());
        let page = Page {
            listed: Vec::new(),
            more,
        };
        let is_empty = self.broken == Broken::Value;
        let records = bucket
            .into_iter()
            .flat_map(move |bucket| bucket.all_or_empty(is_empty));
        (records.skip(from).take(PAGE).collect(), page)
    }

    pub(super) fn collect(&mut self, number: u8, before_ms: u64, fence: &Positions) {
        let bucket = self.buckets.entry(number).or_default();
        let gone = bucket.gone.iter().filter(|(_, at_ms)| **at_ms <= before_ms);
        let gone: Vec<RecordId> = gone.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            bucket.forget(id);
        }
        bucket.fence.extend(fence.clone());
    }

    /// Recomputes the digests of a bucket. A record whose value is gone counts as absent: then the digests of others
    /// differ, and a repair brings it.
    pub(super) fn recount(&mut self, number: u8, now_ms: u64) {
        let bucket = self.buckets.entry(number).or_default();
        if self.broken != Broken::Value {
            let records = &mut bucket.records;
            records.retain(|_, (mark, value)| !mark.has_lost(value.is_some(), now_ms));
        }
        bucket.digests.clear();
        for (id, (mark, _)) in &bucket.records {
            if let Some(part) = mark.part() {
                let share = share(&id.to_string(), &mark.to_string()).0;
                *bucket.digests.entry(part).or_default() ^= share;
            }
        }
    }

    /// Recomputes the digests of all buckets, as `unit repair --recount` does.
    pub(super) fn recount_all(&mut self, now_ms: u64) {
        let numbers: Vec<u8> = self.buckets.keys().copied().collect();
        let numbers = numbers.into_iter();
        numbers.for_each(|number| self.recount(number, now_ms));
    }

    /// Sets clocks of the future back to now, as `unit repair --clocks` does.
    pub(super) fn reset_clocks(&mut self, now_ms: u64) {
        for bucket in self.buckets.values_mut() {
            let is_ahead = |ms| ahead(ms, now_ms).is_some();
            let is_empty = bucket.outbox.is_empty();
            let back = bucket.meta.set_back(is_ahead, is_empty, now_ms);
            bucket.meta = back.unwrap_or(bucket.meta);
            bucket
                .applied
                .retain(|_, position| !is_ahead(position.incarnation));
        }
    }

    /// Records with a version of the future, deleted ones included.
    pub(super) fn ahead(&self, now_ms: u64) -> Vec<RecordId> {
        let records = self.buckets.values().flat_map(|bucket| &bucket.records);
        let ahead = records.filter(|(_, (mark, _))| ahead(mark.version.clock.ms, now_ms).is_some());
        ahead.map(|(id, _)| id.clone()).collect()
    }
}
