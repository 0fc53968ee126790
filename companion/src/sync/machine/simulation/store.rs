//! A store of one unit as a map, under the shipped rule. A test can make it break the rule.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, Record, RecordId, Value, Version};

use super::rows::{Bucket, Rows};
use crate::replica::bounds::AHEAD_MS_MAX;
use crate::replica::digest::{bucket_of, share};
use crate::replica::transaction;
use crate::replica::{Mark, Part, Rules, epoch};
use crate::store::{
    Applied, Backlog, Batch, Change, ClockAhead, Condition, Cursors, Held, Outcome, Page, Waiting,
};

/// Records in one page, small so that a bucket takes several.
const PAGE: usize = 2;
/// Ops that are read at once.
const READ: usize = 3;

pub(super) type Positions = BTreeMap<UnitId, Position>;

/// A rule that a test can make a store break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    /// Deletions leave no tombstone.
    Tombstones,
    /// An op that a position covers, but that is absent, is applied again.
    Covered,
    /// The last version to arrive wins, instead of the latest one.
    Order,
    /// The clock of a change is believed, even one in the future.
    Future,
    /// A full store confirms nothing and deletes nothing, as it puts nothing.
    Full,
    /// A companion without peers may write, although its unit has some.
    Agreement,
    /// A record without its value goes into a repair as an empty one, and a recount keeps it.
    Value,
    /// The broker's limit stays unknown.
    Limit,
}

#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) rules: Rules,
    pub(super) broken: Broken,
    pub(super) buckets: BTreeMap<u8, Bucket>,
    pub(super) cursors: Cursors,
    pub(super) identity: u64,
    /// How many records and ops there is room for.
    pub(super) room: usize,
}

fn id(key: &str) -> RecordId {
    RecordId {
        dataset: "d".parse().unwrap(),
        key: key.parse().unwrap(),
    }
}

/// Keys fall into few buckets, so that each has several.
fn small(bucket: u8) -> u8 {
    bucket % 3
}

impl Store {
    pub(super) fn new(unit: UnitId, broken: Broken) -> Self {
        Self {
            rules: Rules {
                ahead_ms_max: match broken {
                    Broken::Future => u64::MAX,
                    _ => AHEAD_MS_MAX,
                },
                ..Rules::of(unit, true)
            },
            broken,
            buckets: BTreeMap::new(),
            cursors: Cursors::new(),
            identity: 0,
            room: usize::MAX,
        }
    }

    /// Whether the store is full.
    fn is_full(&self) -> bool {
        let used = |bucket: &Bucket| bucket.records.len() + bucket.outbox.len();
        self.buckets.values().map(used).sum::<usize>() >= self.room
    }

    /// A companion that is configured without peers writes: the store, which knows the unit's configuration,
    /// refuses it.
    pub(super) fn write_without_peers(
        &mut self,
        key: &str,
        value: Option<Vec<u8>>,
        expires_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<(u8, Record)> {
        if self.broken != Broken::Agreement {
            return None;
        }
        self.rules.has_peers = false;
        let written = self.write(key, value, expires_ms, now_ms);
        self.rules.has_peers = true;
        written
    }

    /// Runs one step of the rule on a bucket.
    fn step<T>(
        &mut self,
        number: u8,
        step: impl FnOnce(&mut Rows<'_>, &Rules) -> Result<T, ClockAhead>,
    ) -> Result<T, ClockAhead> {
        let broken = self.broken;
        let bucket = self.buckets.entry(number).or_default();
        let mut rows = Rows { bucket, broken };
        rows.bucket.meta.known = rows
            .bucket
            .applied
            .get(&self.rules.unit)
            .copied()
            .unwrap_or_default();
        let done = step(&mut rows, &self.rules);
        if broken == Broken::Tombstones {
            let records = bucket.records.iter();
            let deleted = records.filter(|(_, (mark, _))| mark.is_deleted);
            let deleted: Vec<RecordId> = deleted.map(|(id, _)| id.clone()).collect();
            deleted.iter().for_each(|id| bucket.forget(id));
        }
        done
    }

    /// The bucket that was written and the record, if there was something to do.
    pub(super) fn write(
        &mut self,
        key: &str,
        value: Option<Vec<u8>>,
        expires_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<(u8, Record)> {
        if self.is_full() && (value.is_some() || self.broken == Broken::Full) {
            return None;
        }
        let id = id(key);
        let number = small(bucket_of(&id));
        let change = match &value {
            Some(value) => Change::Put { value, expires_ms },
            None => Change::Delete,
        };
        let outcome = self.step(number, |rows, rules| {
            transaction::write(rows, rules, &id, (change, &Condition::Any), now_ms)
        });
        let Ok(Outcome::Done(written)) = outcome else {
            return None;
        };
        let record = Record {
            id,
            version: written.version,
            expires_ms: expires_ms.filter(|_| value.is_some()),
            value: value.map(Value),
        };
        Some((number, record))
    }

    /// `None` if it is full: then all of it comes again. Deletions need no room.
    pub(super) fn apply(&mut self, parts: &[(u8, Batch)], now_ms: u64) -> Option<Vec<Applied>> {
        let puts = |(_, batch): &(u8, Batch)| match batch {
            Batch::Ops { ops, .. } => ops.iter().any(|op| op.record.value.is_some()),
            Batch::Records { records, .. } => records.iter().any(|record| record.value.is_some()),
        };
        if self.is_full() && (parts.iter().any(puts) || self.broken == Broken::Full) {
            return None;
        }
        let parts = parts.iter();
        let one = |(number, batch): &(u8, Batch)| {
            let applied = self.step(*number, |rows, rules| {
                transaction::apply(rows, rules, batch, now_ms)
            });
            applied.unwrap()
        };
        Some(parts.map(one).collect())
    }

    pub(super) fn outboxes(&self, asked: &[(u8, Position)]) -> Vec<Waiting> {
        let none = Bucket::default();
        let read = |(number, after): &(u8, Position)| {
            let bucket = self.buckets.get(number).unwrap_or(&none);
            let is_same = after.incarnation == bucket.meta.own.incarnation;
            let after = if is_same { after.sequence } else { 0 };
            let mut rest = bucket.outbox.range(after + 1..);
            let ops = rest.by_ref().take(READ).map(|(sequence, op)| Op {
                sequence: *sequence,
                record: op.0.clone(),
                over: op.1.clone(),
                trace: None,
            });
            Waiting {
                incarnation: bucket.meta.own.incarnation,
                ops: ops.collect(),
                passed: BTreeSet::new(),
                last: bucket.meta.own.sequence,
                more: rest.next().is_some(),
            }
        };
        asked.iter().map(read).collect()
    }

    pub(super) fn cursors(&self) -> Cursors {
        self.cursors.clone()
    }

    pub(super) fn confirm(
        &mut self,
        unit: &UnitId,
        cursors: &[(u8, Position)],
        members: &[UnitId],
    ) {
        if self.is_full() && self.broken == Broken::Full {
            return;
        }
        for (number, through) in cursors {
            let bucket = self.buckets.entry(*number).or_default();
            if through.incarnation != bucket.meta.own.incarnation {
                continue;
            }
            let stored = self.cursors.entry(unit.clone()).or_default();
            let cursor = stored.entry(*number).or_default();
            *cursor = (*cursor).max(*through);
            let of = |unit| {
                let cursor = self.cursors.get(unit)?.get(number)?;
                (cursor.incarnation == through.incarnation).then_some(cursor.sequence)
            };
            let first = members.iter().map(|unit| of(unit).unwrap_or(0)).min();
            let first = first.unwrap_or(0);
            bucket.outbox.retain(|sequence, _| *sequence > first);
        }
    }

    pub(super) fn shorten(&mut self, keep: &[(u8, u64)]) {
        for (number, keep) in keep {
            let bucket = self.buckets.entry(*number).or_default();
            while bucket.outbox.len() as u64 > *keep {
                bucket.outbox.pop_first();
            }
        }
    }

    pub(super) fn waiting(&self) -> BTreeMap<u8, Backlog> {
        let waiting = self
            .buckets
            .iter()
            .map(|(number, bucket)| (*number, bucket.backlog()));
        waiting.filter(|(_, waiting)| waiting.ops > 0).collect()
    }

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

    /// Whether it has the value that this version wrote.
    pub(super) fn has_value(&self, version: &Version) -> bool {
        let mut records = self
            .buckets
            .values()
            .flat_map(|bucket| bucket.records.values());
        records.any(|(mark, value)| mark.version == *version && value.is_some())
    }

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
}
