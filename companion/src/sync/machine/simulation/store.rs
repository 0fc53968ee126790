//! A store of one unit as a map, under the shipped rule. A test can make it break the rule.

use std::collections::BTreeMap;

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, Record, RecordId, Value};

use super::broken::Broken;
use super::rows::{Bucket, Rows};
use crate::replica::Rules;
use crate::replica::bounds::AHEAD_MS_MAX;
use crate::replica::digest::bucket_of;
use crate::replica::transaction;
use crate::store::{Applied, Batch, Change, ClockAhead, Condition, Cursors, Outcome};

pub(super) type Positions = BTreeMap<UnitId, Position>;

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
    pub(super) fn is_full(&self) -> bool {
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
}
