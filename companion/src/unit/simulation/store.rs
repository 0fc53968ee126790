//! A store of one unit as a map: what the contract says, in few lines.

use std::collections::BTreeMap;

use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Op, Record, RecordId, Value, Version};

use crate::store::digest::{Mark, bucket_of, share};
use crate::store::{Applied, Batch, Page};

/// Records in one page, small so that a bucket takes several.
const PAGE: usize = 2;

#[derive(Debug, Clone, Default)]
struct Bucket {
    clock: Clock,
    sequence: u64,
    records: BTreeMap<RecordId, Record>,
    outbox: BTreeMap<u64, Record>,
    applied: BTreeMap<UnitId, u64>,
}

/// The store.
#[derive(Debug, Clone)]
pub(super) struct Store {
    unit: UnitId,
    buckets: BTreeMap<u8, Bucket>,
}

/// Few buckets with several records each.
fn id(key: &str) -> RecordId {
    RecordId {
        dataset: "d".parse().unwrap(),
        key: key.parse().unwrap(),
    }
}

impl Store {
    pub(super) fn new(unit: UnitId) -> Self {
        let buckets = BTreeMap::new();
        Self { unit, buckets }
    }

    /// The bucket that was written, if there was something to do.
    pub(super) fn write(&mut self, key: &str, value: Option<Vec<u8>>, now_ms: u64) -> Option<u8> {
        let id = id(key);
        let number = small(bucket_of(&id));
        let bucket = self.buckets.entry(number).or_default();
        let is_live = bucket
            .records
            .get(&id)
            .is_some_and(|record| record.value.is_some());
        if value.is_none() && !is_live {
            return None;
        }
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
        bucket.sequence += 1;
        let record = Record {
            id: id.clone(),
            version: Version {
                clock: bucket.clock,
                unit: self.unit.clone(),
            },
            value: value.map(Value),
            expires_ms: None,
        };
        bucket.outbox.insert(bucket.sequence, record.clone());
        bucket.records.insert(id, record);
        Some(number)
    }

    pub(super) fn apply(&mut self, number: u8, batch: &Batch) -> Applied {
        let bucket = self.buckets.entry(number).or_default();
        let mut applied = Applied::default();
        let records: Vec<&Record> = match batch {
            Batch::Ops { ops, .. } => ops.iter().map(|op| &op.record).collect(),
            Batch::Records { records, .. } => records.iter().collect(),
        };
        for record in records {
            bucket.clock = bucket.clock.max(record.version.clock);
            let known = bucket.records.get(&record.id);
            if known.is_none_or(|known| known.version < record.version) {
                bucket.records.insert(record.id.clone(), record.clone());
                applied.changed += 1;
            }
        }
        match batch {
            Batch::Ops { origin, ops } => {
                let position = bucket.applied.entry(origin.clone()).or_default();
                for op in ops {
                    if op.sequence == *position + 1 {
                        *position = op.sequence;
                    } else if op.sequence > *position {
                        applied.gaps += 1;
                    }
                }
            }
            Batch::Records { positions, .. } => {
                for (unit, claim) in positions {
                    if *unit == self.unit {
                        bucket.sequence = bucket.sequence.max(*claim);
                    } else {
                        let position = bucket.applied.entry(unit.clone()).or_default();
                        *position = (*position).max(*claim);
                    }
                }
            }
        }
        applied
    }

    pub(super) fn outbox(&self, number: u8) -> Vec<Op> {
        let bucket = self.buckets.get(&number).cloned().unwrap_or_default();
        let ops = bucket.outbox.into_iter().take(3);
        ops.map(|(sequence, record)| Op { sequence, record })
            .collect()
    }

    pub(super) fn trim(&mut self, number: u8, through: u64) {
        let bucket = self.buckets.entry(number).or_default();
        bucket.outbox.retain(|sequence, _| *sequence > through);
    }

    pub(super) fn waiting(&self) -> BTreeMap<u8, u64> {
        let waiting = self
            .buckets
            .iter()
            .map(|(number, bucket)| (*number, bucket.outbox.len() as u64));
        waiting.filter(|(_, waiting)| *waiting > 0).collect()
    }

    pub(super) fn states(&self) -> Vec<BucketState> {
        let state = |(number, bucket): (&u8, &Bucket)| {
            let mut positions = bucket.applied.clone();
            positions.insert(self.unit.clone(), bucket.sequence);
            positions.retain(|_, position| *position > 0);
            let digest = bucket.records.values().fold(0, |digest, record| {
                digest ^ share(&record.id.to_string(), &Mark::of(record).to_string()).0
            });
            BucketState {
                bucket: *number,
                digest: Digest(digest),
                positions,
            }
        };
        self.buckets.iter().map(state).collect()
    }

    pub(super) fn page(&self, number: u8, page: Page) -> (Vec<Record>, Page) {
        let bucket = self.buckets.get(&number).cloned().unwrap_or_default();
        let from: usize = page.more.unwrap_or_default().parse().unwrap_or(0);
        let records: Vec<Record> = bucket.records.into_values().collect();
        let more = (from + PAGE < records.len()).then(|| (from + PAGE).to_string());
        let page = Page {
            listed: Vec::new(),
            more,
        };
        (records.into_iter().skip(from).take(PAGE).collect(), page)
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.buckets
            .values()
            .flat_map(|bucket| bucket.records.values().cloned())
            .collect()
    }

    /// Forgets a record without a trace.
    pub(super) fn damage(&mut self) {
        let bucket = self
            .buckets
            .values_mut()
            .find(|bucket| !bucket.records.is_empty());
        bucket.unwrap().records.pop_first().unwrap();
    }
}

/// Keys fall into few buckets, so that each has several.
fn small(bucket: u8) -> u8 {
    bucket % 3
}
