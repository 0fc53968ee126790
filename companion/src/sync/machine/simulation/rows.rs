//! A bucket of a store, as the shipped rule works on it. A store that breaks a rule returns wrong values to it.

use std::collections::BTreeMap;

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Position, Record, RecordId, Value, Version};

use super::broken::Broken;
use super::store::Positions;
use crate::replica::transaction::{self, BucketTransaction, Outgoing};
use crate::replica::{self, Mark, Part, Stamps};
use crate::store::{Backlog, ClockAhead, Conflict};

#[derive(Debug, Clone, Default)]
pub(super) struct Bucket {
    pub(super) meta: replica::Bucket,
    pub(super) digests: BTreeMap<Part, u64>,
    pub(super) records: BTreeMap<RecordId, (Mark, Option<Value>)>,
    pub(super) gone: BTreeMap<RecordId, u64>,
    pub(super) outbox: BTreeMap<u64, (Record, Option<Version>)>,
    pub(super) applied: Positions,
    pub(super) fence: Positions,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) stamps: BTreeMap<RecordId, Stamps>,
}

impl Bucket {
    /// Every record, tombstones included.
    pub(super) fn all(&self) -> impl Iterator<Item = Record> {
        self.all_or_empty(false)
    }

    /// The same; the flag says whether a record that lost its value is an empty record, or none.
    pub(super) fn all_or_empty(&self, is_empty: bool) -> impl Iterator<Item = Record> {
        let records = self.records.iter();
        records.filter_map(move |(id, (mark, value))| {
            let value = value.as_ref().map(|value| value.0.clone());
            let value = value.or_else(|| is_empty.then(Vec::new));
            mark.clone().record(id.clone(), value)
        })
    }

    pub(super) fn backlog(&self) -> Backlog {
        let values = self.outbox.values().map(|(record, _)| &record.value);
        let bytes = values.flatten().map(|value| value.0.len() as u64);
        Backlog {
            ops: self.outbox.len() as u64,
            bytes: bytes.sum(),
        }
    }

    pub(super) fn forget(&mut self, id: &RecordId) {
        let mut rows = Rows {
            bucket: self,
            broken: Broken::Nothing,
        };
        transaction::forget(&mut rows, std::slice::from_ref(id)).unwrap();
    }
}

/// A bucket inside a step. A store that breaks a rule returns wrong values to it.
pub(super) struct Rows<'a> {
    pub(super) bucket: &'a mut Bucket,
    pub(super) broken: Broken,
}

impl BucketTransaction for Rows<'_> {
    type Error = ClockAhead;

    fn bucket(&mut self) -> Result<replica::Bucket, ClockAhead> {
        Ok(self.bucket.meta)
    }

    fn set_bucket(&mut self, meta: replica::Bucket) -> Result<(), ClockAhead> {
        (self.bucket.meta.clock, self.bucket.meta.own) = (meta.clock, meta.own);
        Ok(())
    }

    fn mark(&mut self, id: &RecordId) -> Result<Option<Mark>, ClockAhead> {
        let mark = self.bucket.records.get(id).map(|(mark, _)| mark.clone());
        // A deletion before everything else: every change is later.
        let first = || Mark {
            version: Version {
                clock: Clock::default(),
                unit: "a".parse().unwrap(),
            },
            is_deleted: true,
            expires_ms: None,
        };
        Ok(match (mark, self.broken) {
            (None, Broken::Covered) | (Some(_), Broken::Order) => Some(first()),
            (mark, _) => mark,
        })
    }

    fn value(&mut self, id: &RecordId) -> Result<Option<Value>, ClockAhead> {
        Ok(self
            .bucket
            .records
            .get(id)
            .and_then(|(_, value)| value.clone()))
    }

    fn replace(
        &mut self,
        id: &RecordId,
        mark: Option<&Mark>,
        value: Option<&[u8]>,
        gone_ms: Option<u64>,
    ) -> Result<Option<Mark>, ClockAhead> {
        self.bucket.gone.remove(id);
        self.bucket
            .gone
            .extend(gone_ms.map(|gone_ms| (id.clone(), gone_ms)));
        let value = value.map(|value| Value(value.to_vec()));
        let old = match mark {
            Some(mark) => self
                .bucket
                .records
                .insert(id.clone(), (mark.clone(), value)),
            None => self.bucket.records.remove(id),
        };
        Ok(old.map(|(mark, _)| mark))
    }

    fn mix(&mut self, part: Part, share: u64) -> Result<(), ClockAhead> {
        *self.bucket.digests.entry(part).or_default() ^= share;
        Ok(())
    }

    fn log_change(&mut self, _: &RecordId, _: &Mark) -> Result<(), ClockAhead> {
        Ok(())
    }

    fn outbox_is_empty(&mut self) -> Result<bool, ClockAhead> {
        Ok(self.bucket.outbox.is_empty())
    }

    fn push_outbox(&mut self, op: Outgoing<'_>) -> Result<(), ClockAhead> {
        let value = op.value.map(<[u8]>::to_vec);
        let record = op.mark.clone().record(op.id.clone(), value).unwrap();
        let over = op.over.cloned().filter(|_| self.broken != Broken::Over);
        self.bucket.outbox.insert(op.sequence, (record, over));
        Ok(())
    }

    fn applied(&mut self, unit: &UnitId) -> Result<Position, ClockAhead> {
        Ok(self.bucket.applied.get(unit).copied().unwrap_or_default())
    }

    fn set_applied(&mut self, unit: &UnitId, position: Position) -> Result<(), ClockAhead> {
        self.bucket.applied.insert(unit.clone(), position);
        Ok(())
    }

    fn fence(&mut self) -> Result<Positions, ClockAhead> {
        Ok(match self.broken {
            Broken::Fence => Positions::new(),
            _ => self.bucket.fence.clone(),
        })
    }

    fn stamps(&mut self, id: &RecordId) -> Result<Stamps, ClockAhead> {
        Ok(self.bucket.stamps.get(id).cloned().unwrap_or_default())
    }

    fn set_stamps(&mut self, id: &RecordId, stamps: &Stamps) -> Result<(), ClockAhead> {
        self.bucket.stamps.insert(id.clone(), stamps.clone());
        Ok(())
    }

    fn log_conflict(&mut self, mut conflict: Conflict) -> Result<(), ClockAhead> {
        match self.broken {
            Broken::Conflicts => return Ok(()),
            Broken::LostValue => conflict.value = None,
            _ => {}
        }
        self.bucket.conflicts.push(conflict);
        Ok(())
    }
}
