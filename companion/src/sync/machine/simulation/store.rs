//! A store of one unit as a map, under the shipped rule. A test can make it break the rule.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Position, Record, RecordId, Value, Version};

use super::broken::Broken;
use super::history::Seen;
use super::rows::{Bucket, Rows};
use crate::replica::bounds::AHEAD_MS_MAX;
use crate::replica::digest::bucket_of;
use crate::replica::{Rules, transaction};
use crate::store::{
    Agreement, Applied, Batch, Change, ClockAhead, Condition, Cursors, Outcome, SINCE_AGREED,
};

pub(super) type Positions = BTreeMap<UnitId, Position>;

/// How many buckets have keys.
pub(super) const BUCKETS: u8 = 3;

#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) rules: Rules,
    pub(super) broken: Broken,
    pub(super) buckets: BTreeMap<u8, Bucket>,
    pub(super) cursors: Cursors,
    pub(super) identity: u64,
    /// How many records and ops there is room for.
    pub(super) room: usize,
    /// What the first companion of the unit agreed on.
    pub(super) agreed: Agreement,
    /// What it saw, for the judge.
    pub(super) seen: Seen,
    /// Whether values may vanish while their marks stay.
    pub(super) loses_values: bool,
}

pub(super) fn id(dataset: &str, key: &str) -> RecordId {
    RecordId {
        dataset: dataset.parse().unwrap(),
        key: key.parse().unwrap(),
    }
}

/// The keys that clients write. They fall into few buckets, so that each has several.
pub(super) fn key(number: u64) -> RecordId {
    static KEYS: OnceLock<Vec<RecordId>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let keys = (0..).map(|number| id("d", &format!("k{number}")));
        let keys = keys.filter(|id| bucket_of(id) < BUCKETS);
        keys.take(300).collect()
    });
    keys[usize::try_from(number).unwrap()].clone()
}

/// What companions agree on that know these peers.
fn agreement(peers: &str) -> Agreement {
    Agreement(format!("peers {peers}{SINCE_AGREED}/"))
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
            agreed: agreement("all"),
            seen: Seen::default(),
            loses_values: false,
        }
    }

    /// Whether the store is full.
    pub(super) fn is_full(&self) -> bool {
        let used = |bucket: &Bucket| bucket.records.len() + bucket.outbox.len();
        self.buckets.values().map(used).sum::<usize>() >= self.room
    }

    /// A companion that is configured without peers writes: what the store says of the unit's configuration
    /// keeps it out.
    pub(super) fn write_without_peers(
        &mut self,
        id: &RecordId,
        value: Option<Vec<u8>>,
        expires_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<Record> {
        if !agreement("").joins(&self.agreed.0) && self.broken != Broken::Agreement {
            return None;
        }
        self.rules.has_peers = false;
        let written = self.write(id, value, expires_ms, now_ms);
        self.rules.has_peers = true;
        written
    }

    /// The rules of a step. A broken store believes clocks of the future.
    fn rules_of(&self, is_believed: bool) -> Rules {
        let mut rules = self.rules.clone();
        if is_believed {
            rules.ahead_ms_max = u64::MAX;
        }
        rules
    }

    /// Runs one step of the rule on a bucket.
    fn step<T>(
        &mut self,
        number: u8,
        rules: &Rules,
        step: impl FnOnce(&mut Rows<'_>, &Rules) -> Result<T, ClockAhead>,
    ) -> Result<T, ClockAhead> {
        let broken = self.broken;
        let bucket = self.buckets.entry(number).or_default();
        let mut rows = Rows { bucket, broken };
        let known = rows.bucket.applied.get(&self.rules.unit).copied();
        rows.bucket.meta.known = known.unwrap_or_default();
        let done = step(&mut rows, rules);
        if broken == Broken::Tombstones {
            let records = bucket.records.iter();
            let deleted = records.filter(|(_, (mark, _))| mark.is_deleted);
            let deleted: Vec<RecordId> = deleted.map(|(id, _)| id.clone()).collect();
            deleted.iter().for_each(|id| bucket.forget(id));
        }
        done
    }

    /// The record that was written, if there was something to do.
    pub(super) fn write(
        &mut self,
        id: &RecordId,
        value: Option<Vec<u8>>,
        expires_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<Record> {
        if self.is_full() && (value.is_some() || self.broken == Broken::Full) {
            return None;
        }
        let change = match &value {
            Some(value) => Change::Put { value, expires_ms },
            None => Change::Delete,
        };
        let version = self.change(id, change, now_ms)?;
        Some(Record {
            id: id.clone(),
            version,
            expires_ms: expires_ms.filter(|_| value.is_some()),
            value: value.map(Value),
        })
    }

    pub(super) fn change(
        &mut self,
        id: &RecordId,
        change: Change<'_>,
        now_ms: u64,
    ) -> Option<Version> {
        let number = bucket_of(id);
        if self.broken == Broken::Tick {
            self.buckets.entry(number).or_default().meta.clock = Clock::default();
        }
        let rules = self.rules_of(self.broken == Broken::OwnFuture);
        let outcome = self.step(number, &rules, |rows, rules| {
            transaction::write(rows, rules, id, (change, &Condition::Any), now_ms)
        });
        match outcome {
            Ok(Outcome::Done(written)) => Some(written.version),
            _ => None,
        }
    }

    /// Whether the store refuses batches because it is full: then all of them come again. Deletions need no room.
    pub(super) fn refuses(&self, parts: &[(u8, Batch)]) -> bool {
        let puts = |(_, batch): &(u8, Batch)| match batch {
            Batch::Ops { ops, .. } => ops.iter().any(|op| op.record.value.is_some()),
            Batch::Records { records, .. } => records.iter().any(|record| record.value.is_some()),
        };
        self.is_full() && (parts.iter().any(puts) || self.broken == Broken::Full)
    }

    pub(super) fn apply(&mut self, number: u8, batch: &Batch, now_ms: u64) -> Applied {
        let clock = self.buckets.entry(number).or_default().meta.clock;
        let is_ahead = |ms: u64| self.rules.ahead(ms, now_ms).is_some();
        let is_believed = match (batch, self.broken) {
            (Batch::Ops { incarnation, .. }, Broken::Incarnation) => is_ahead(*incarnation),
            (Batch::Records { positions, .. }, Broken::Positions) => {
                positions.values().any(|at| is_ahead(at.incarnation))
            }
            (Batch::Records { clock, .. }, Broken::SenderClock) => is_ahead(clock.ms),
            _ => false,
        };
        let rules = self.rules_of(is_believed);
        let applied = self.step(number, &rules, |rows, rules| {
            transaction::apply(rows, rules, batch, now_ms)
        });
        if self.broken == Broken::Hear {
            self.buckets.entry(number).or_default().meta.clock = clock;
        }
        applied.unwrap()
    }
}
