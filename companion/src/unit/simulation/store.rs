//! A store of one unit as a map: what the contract says, in few lines. It can be told to break a rule.

use std::collections::BTreeMap;

use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId, Value, Version};

use crate::replica::digest::{bucket_of, share};
use crate::replica::{Mark, Part, epoch};
use crate::store::{Applied, Batch, Cursors, Held, Page, Waiting};

/// Records in one page, small so that a bucket takes several.
const PAGE: usize = 2;
/// Ops that are read at once.
const READ: usize = 3;

type Positions = BTreeMap<UnitId, Position>;

/// A rule that a store can be told to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// None.
    Nothing,
    /// Deletions leave no tombstone.
    Tombstones,
    /// What a position covers and is not there is taken again.
    Covered,
    /// The later version does not win: the last to come does.
    Order,
}

#[derive(Debug, Clone, Default)]
struct Bucket {
    clock: Clock,
    own: Position,
    records: BTreeMap<RecordId, Record>,
    gone: BTreeMap<RecordId, u64>,
    outbox: BTreeMap<u64, (Record, Option<Version>)>,
    applied: Positions,
    fence: Positions,
}

/// The store.
#[derive(Debug, Clone)]
pub(super) struct Store {
    unit: UnitId,
    broken: Broken,
    buckets: BTreeMap<u8, Bucket>,
    cursors: Cursors,
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

impl Bucket {
    fn put(&mut self, record: &Record, now_ms: u64) {
        self.gone.remove(&record.id);
        if record.is_deleted() || record.expires_ms.is_some() {
            let gone_ms = record.expires_ms.unwrap_or(now_ms).max(now_ms);
            self.gone.insert(record.id.clone(), gone_ms);
        }
        self.records.insert(record.id.clone(), record.clone());
    }

    fn forget(&mut self, id: &RecordId) {
        self.gone.remove(id);
        self.records.remove(id);
    }
}

impl Store {
    pub(super) fn new(unit: UnitId, broken: Broken) -> Self {
        Self {
            unit,
            broken,
            buckets: BTreeMap::new(),
            cursors: Cursors::new(),
        }
    }

    /// The bucket that was written and the record, if there was something to do.
    pub(super) fn write(
        &mut self,
        key: &str,
        value: Option<Vec<u8>>,
        expires_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<(u8, Record)> {
        let id = id(key);
        let number = small(bucket_of(&id));
        let bucket = self.buckets.entry(number).or_default();
        let there = bucket.records.get(&id);
        if value.is_none() && there.is_none_or(|there| there.live(now_ms).is_none()) {
            return None;
        }
        let over = there.map(|there| there.version.clone());
        bucket.clock = if now_ms > bucket.clock.ms {
            Clock {
                ms: now_ms,
                counter: 0,
            }
        } else {
            Clock {
                counter: bucket.clock.counter + 1,
                ..bucket.clock
            }
        };
        let lost = bucket.applied.get(&self.unit).copied().unwrap_or_default();
        if bucket.own.incarnation == 0 || bucket.own < lost {
            bucket.own.incarnation = now_ms.max(lost.incarnation + 1);
            if bucket.outbox.is_empty() {
                bucket.own.sequence = 0;
            }
        }
        bucket.own.sequence += 1;
        let record = Record {
            id: id.clone(),
            version: Version {
                clock: bucket.clock,
                unit: self.unit.clone(),
            },
            expires_ms: expires_ms.filter(|_| value.is_some()),
            value: value.map(Value),
        };
        let op = (record.clone(), over);
        bucket.outbox.insert(bucket.own.sequence, op);
        bucket.put(&record, now_ms);
        if record.is_deleted() && self.broken == Broken::Tombstones {
            bucket.forget(&id);
        }
        Some((number, record))
    }

    pub(super) fn apply(&mut self, parts: &[(u8, Batch)], now_ms: u64) -> Vec<Applied> {
        let parts = parts.iter();
        parts
            .map(|(number, batch)| self.apply_one(*number, batch, now_ms))
            .collect()
    }

    fn apply_one(&mut self, number: u8, batch: &Batch, now_ms: u64) -> Applied {
        let broken = self.broken;
        let bucket = self.buckets.entry(number).or_default();
        let mut applied = Applied::default();
        let mut put = |bucket: &mut Bucket, record: &Record, takes_unknown: bool| {
            bucket.clock = bucket.clock.max(record.version.clock);
            let is_later = match bucket.records.get(&record.id) {
                Some(known) => known.version < record.version || broken == Broken::Order,
                None => takes_unknown,
            };
            if is_later {
                bucket.put(record, now_ms);
                applied.changed += 1;
                if record.is_deleted() && broken == Broken::Tombstones {
                    bucket.forget(&record.id);
                }
            }
        };
        match batch {
            Batch::Ops {
                origin,
                incarnation,
                ops,
            } => {
                let mut at = bucket.applied.get(origin).copied().unwrap_or_default();
                let mut gaps = 0;
                for op in ops {
                    let here = Position {
                        incarnation: *incarnation,
                        sequence: op.sequence,
                    };
                    let is_covered = here <= at;
                    put(bucket, &op.record, !is_covered || broken == Broken::Covered);
                    let is_next = here.incarnation == at.incarnation
                        && here.sequence == at.sequence + 1
                        || here.incarnation > at.incarnation && here.sequence == 1;
                    if is_next {
                        at = here;
                    } else if !is_covered {
                        gaps += 1;
                    }
                }
                applied.gaps = gaps;
                if at.sequence > 0 {
                    bucket.applied.insert(origin.clone(), at);
                }
            }
            Batch::Records {
                records,
                positions,
                clock,
                is_last,
            } => {
                let has = |unit: &UnitId| positions.get(unit).copied().unwrap_or_default();
                let is_fenced = bucket.fence.iter().any(|(unit, needs)| has(unit) < *needs);
                for record in records {
                    put(bucket, record, !is_fenced);
                }
                if *is_last {
                    bucket.clock = bucket.clock.max(*clock);
                    for (unit, claim) in positions {
                        let known = bucket.applied.entry(unit.clone()).or_default();
                        *known = (*known).max(*claim);
                    }
                }
            }
        }
        applied
    }

    pub(super) fn outboxes(&self, asked: &[(u8, Position)]) -> Vec<Waiting> {
        let none = Bucket::default();
        let read = |(number, after): &(u8, Position)| {
            let bucket = self.buckets.get(number).unwrap_or(&none);
            let is_same = after.incarnation == bucket.own.incarnation;
            let after = if is_same { after.sequence } else { 0 };
            let mut rest = bucket.outbox.range(after + 1..);
            let ops = rest.by_ref().take(READ).map(|(sequence, op)| Op {
                sequence: *sequence,
                record: op.0.clone(),
                over: op.1.clone(),
            });
            Waiting {
                incarnation: bucket.own.incarnation,
                ops: ops.collect(),
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
        for (number, through) in cursors {
            let bucket = self.buckets.entry(*number).or_default();
            if through.incarnation != bucket.own.incarnation {
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

    pub(super) fn waiting(&self) -> BTreeMap<u8, u64> {
        let waiting = self
            .buckets
            .iter()
            .map(|(number, bucket)| (*number, bucket.outbox.len() as u64));
        waiting.filter(|(_, waiting)| *waiting > 0).collect()
    }

    pub(super) fn states(&self, now_ms: u64) -> Vec<Held> {
        let state = |(number, bucket): (&u8, &Bucket)| {
            let mut positions = bucket.applied.clone();
            let own = positions.entry(self.unit.clone()).or_default();
            *own = bucket.own.max(*own);
            positions.retain(|_, position| position.sequence > 0);
            let counts = |mark: &Mark| match mark.part() {
                None => false,
                Some(Part::Lasting) => true,
                Some(Part::Epoch(of)) => of > epoch(now_ms),
            };
            let digest = bucket.records.values().fold(0, |digest, record| {
                let mark = Mark::of(record);
                let share = share(&record.id.to_string(), &mark.to_string()).0;
                digest ^ if counts(&mark) { share } else { 0 }
            });
            Held {
                state: BucketState {
                    bucket: *number,
                    digest: Digest(digest),
                    positions,
                },
                clock: bucket.clock,
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
        let records = bucket
            .into_iter()
            .flat_map(|bucket| bucket.records.values());
        (records.skip(from).take(PAGE).cloned().collect(), page)
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

    /// What is there for whoever reads: neither tombstones nor what has expired.
    pub(super) fn live(&self, now_ms: u64) -> BTreeMap<RecordId, Record> {
        let records = self
            .buckets
            .values()
            .flat_map(|bucket| bucket.records.values());
        let live = records.filter(|record| record.live(now_ms).is_some());
        live.map(|record| (record.id.clone(), record.clone()))
            .collect()
    }

    /// How far each bucket is, and what it holds that may be forgotten.
    pub(super) fn positions(&self) -> BTreeMap<u8, Positions> {
        let states = self.states(0).into_iter();
        states
            .map(|held| (held.state.bucket, held.state.positions))
            .collect()
    }

    pub(super) fn gone(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.gone.len()).sum()
    }

    pub(super) fn clock_ms(&self) -> u64 {
        let clocks = self.buckets.values().map(|bucket| bucket.clock.ms);
        clocks.max().unwrap_or_default()
    }

    /// Whether it is there, or in an outbox still.
    pub(super) fn has(&self, version: &Version) -> bool {
        let mut buckets = self.buckets.values();
        buckets.any(|bucket| {
            let records = bucket.records.values();
            let mut known = records.chain(bucket.outbox.values().map(|(record, _)| record));
            known.any(|record| record.version == *version)
        })
    }

    /// Forgets a record without a trace.
    pub(super) fn damage(&mut self) {
        let bucket = self
            .buckets
            .values_mut()
            .find(|bucket| bucket.records.values().any(|record| record.value.is_some()));
        let records = &mut bucket.unwrap().records;
        let live = records.values().find(|record| record.value.is_some());
        let id = live.unwrap().id.clone();
        records.remove(&id);
    }
}
