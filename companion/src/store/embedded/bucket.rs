//! A bucket inside a transaction of the file: the storage for [`crate::replica::transaction`],
//! which has the rules.

use std::collections::BTreeMap;

use redb::{ReadableTable as _, WriteTransaction};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Position, RecordId, Value};
use unitring_protocol::trace::TraceParent;

use super::tables::{
    APPLIED, CHANGES, CONFLICTS, DIGESTS, EXPIRING, FENCE, GONE, HEADS, META, OUTBOX, STAMPS,
    STAMPS_DUE, TRACES, VALUES, VERSIONS,
};
use super::{Embedded, away, encode};
use crate::replica::transaction::{BucketTransaction, Outgoing};
use crate::replica::{Bucket, Part, Stamps};
use crate::store::{CHANGES_MAX, CONFLICTS_MAX, Conflict, Mark, StoreError};

/// The stored state of a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meta {
    pub(super) clock: Clock,
    /// The digest of records that do not expire.
    pub(super) digest: u64,
    /// The position of the last op of this unit.
    pub(super) own: Position,
}

impl From<(u64, u32, u64, u64, u64)> for Meta {
    fn from(row: (u64, u32, u64, u64, u64)) -> Self {
        let (ms, counter, sequence, digest, incarnation) = row;
        Self {
            clock: Clock { ms, counter },
            digest,
            own: Position {
                incarnation,
                sequence,
            },
        }
    }
}

fn position((incarnation, sequence): (u64, u64)) -> Position {
    Position {
        incarnation,
        sequence,
    }
}

pub(super) fn row(position: Position) -> (u64, u64) {
    (position.incarnation, position.sequence)
}

/// A bucket of the file.
pub(super) struct Rows<'a> {
    transaction: &'a WriteTransaction,
    store: &'a Embedded,
    number: u8,
    pub(super) meta: Meta,
    /// The span that writes.
    pub(super) trace: Option<TraceParent>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(
        transaction: &'a WriteTransaction,
        store: &'a Embedded,
        number: u8,
    ) -> Result<Self, StoreError> {
        let table = transaction.open_table(META).map_err(away)?;
        let meta = table.get(number).map_err(away)?;
        Ok(Self {
            transaction,
            store,
            number,
            meta: meta.map_or_else(Meta::default, |meta| meta.value().into()),
            trace: None,
        })
    }

    /// Stores clock, position and digest; without it the digest would not match the records.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let mut table = self.transaction.open_table(META).map_err(away)?;
        let row = (
            self.meta.clock.ms,
            self.meta.clock.counter,
            self.meta.own.sequence,
            self.meta.digest,
            self.meta.own.incarnation,
        );
        table.insert(self.number, row).map_err(away)?;
        Ok(())
    }
}

impl BucketTransaction for Rows<'_> {
    type Error = StoreError;

    fn bucket(&mut self) -> Result<Bucket, StoreError> {
        let known = self.applied(&self.store.rules.unit)?;
        Ok(Bucket {
            clock: self.meta.clock,
            own: self.meta.own,
            known,
        })
    }

    fn set_bucket(&mut self, bucket: Bucket) -> Result<(), StoreError> {
        (self.meta.clock, self.meta.own) = (bucket.clock, bucket.own);
        Ok(())
    }

    fn mark(&mut self, id: &RecordId) -> Result<Option<Mark>, StoreError> {
        let versions = self.transaction.open_table(VERSIONS).map_err(away)?;
        let mark = versions.get((self.number, id.to_string().as_str()));
        let mark = mark.map_err(away)?.map(|mark| mark.value().parse());
        Ok(mark.and_then(|mark| self.store.spoiled.keep(&id.to_string(), mark)))
    }

    fn value(&mut self, id: &RecordId) -> Result<Option<Value>, StoreError> {
        let values = self.transaction.open_table(VALUES).map_err(away)?;
        let value = values.get((self.number, id.to_string().as_str()));
        Ok(value
            .map_err(away)?
            .map(|value| Value(value.value().to_vec())))
    }

    fn replace(
        &mut self,
        id: &RecordId,
        mark: Option<&Mark>,
        value: Option<&[u8]>,
        gone_ms: Option<u64>,
    ) -> Result<Option<Mark>, StoreError> {
        let (transaction, number, id) = (self.transaction, self.number, id.to_string());
        let mut versions = transaction.open_table(VERSIONS).map_err(away)?;
        let mut values = transaction.open_table(VALUES).map_err(away)?;
        let mut expiring = transaction.open_table(EXPIRING).map_err(away)?;
        let mut gone = transaction.open_table(GONE).map_err(away)?;
        let key = (number, id.as_str());
        let old = match mark {
            Some(mark) => versions.insert(key, mark.to_string().as_str()),
            None => versions.remove(key),
        };
        let old = old.map_err(away)?.map(|old| old.value().parse::<Mark>());
        let old = old.and_then(|old| self.store.spoiled.keep(&id, old));
        if let Some(expires_ms) = old.as_ref().and_then(|old| old.expires_ms) {
            let key = (expires_ms, number, id.as_str());
            expiring.remove(key).map_err(away)?;
        }
        if let Some(expires_ms) = mark.and_then(|mark| mark.expires_ms) {
            let key = (expires_ms, number, id.as_str());
            expiring.insert(key, ()).map_err(away)?;
        }
        match gone_ms {
            Some(gone_ms) => drop(gone.insert(key, gone_ms).map_err(away)?),
            None => drop(gone.remove(key).map_err(away)?),
        }
        match value {
            Some(value) => drop(values.insert(key, value).map_err(away)?),
            None => drop(values.remove(key).map_err(away)?),
        }
        Ok(old)
    }

    fn mix(&mut self, part: Part, share: u64) -> Result<(), StoreError> {
        let epoch = match part {
            Part::Lasting => {
                self.meta.digest ^= share;
                return Ok(());
            }
            Part::Epoch(epoch) => epoch,
        };
        let mut digests = self.transaction.open_table(DIGESTS).map_err(away)?;
        let before = digests.get((self.number, epoch)).map_err(away)?;
        let mixed = before.map_or(0, |before| before.value()) ^ share;
        if mixed == 0 {
            digests.remove((self.number, epoch)).map_err(away)?;
        } else {
            let key = (self.number, epoch);
            digests.insert(key, mixed).map_err(away)?;
        }
        Ok(())
    }

    fn log_change(&mut self, id: &RecordId, mark: &Mark) -> Result<(), StoreError> {
        let mut heads = self.transaction.open_table(HEADS).map_err(away)?;
        let mut changes = self.transaction.open_table(CHANGES).map_err(away)?;
        let head = heads.get(self.number).map_err(away)?;
        let number = head.map_or(0, |head| head.value()).saturating_add(1);
        heads.insert(self.number, number).map_err(away)?;
        let row = (id.to_string(), mark.to_string());
        changes
            .insert((self.number, number), (row.0.as_str(), row.1.as_str()))
            .map_err(away)?;
        if let Some(old) = number.checked_sub(CHANGES_MAX) {
            changes.remove((self.number, old)).map_err(away)?;
        }
        Ok(())
    }

    fn outbox_is_empty(&mut self) -> Result<bool, StoreError> {
        let outbox = self.transaction.open_table(OUTBOX).map_err(away)?;
        let all = (self.number, 0)..=(self.number, u64::MAX);
        let mut ops = outbox.range(all).map_err(away)?;
        Ok(ops.next().is_none())
    }

    fn push_outbox(&mut self, op: Outgoing<'_>) -> Result<(), StoreError> {
        let mut outbox = self.transaction.open_table(OUTBOX).map_err(away)?;
        let (id, mark) = (op.id.to_string(), op.mark.to_string());
        let over = op.over.map_or_else(String::new, ToString::to_string);
        let value = op.value.unwrap_or_default();
        let row = (id.as_str(), mark.as_str(), value, over.as_str());
        let key = (self.number, op.sequence);
        outbox.insert(key, row).map_err(away)?;
        if let Some(trace) = self.trace {
            let mut traces = self.transaction.open_table(TRACES).map_err(away)?;
            // With the mark, so that a trace that an older version left of another op is not taken for this one's.
            let trace = format!("{mark} {trace}");
            traces.insert(key, trace.as_str()).map_err(away)?;
        }
        Ok(())
    }

    fn applied(&mut self, unit: &UnitId) -> Result<Position, StoreError> {
        let table = self.transaction.open_table(APPLIED).map_err(away)?;
        let found = table.get((self.number, unit.as_str())).map_err(away)?;
        Ok(found.map_or_else(Position::default, |found| position(found.value())))
    }

    fn set_applied(&mut self, unit: &UnitId, position: Position) -> Result<(), StoreError> {
        let mut table = self.transaction.open_table(APPLIED).map_err(away)?;
        let key = (self.number, unit.as_str());
        table.insert(key, row(position)).map_err(away)?;
        Ok(())
    }

    fn fence(&mut self) -> Result<BTreeMap<UnitId, Position>, StoreError> {
        let table = self.transaction.open_table(FENCE).map_err(away)?;
        let mut fence = BTreeMap::new();
        for entry in table.range((self.number, "")..).map_err(away)? {
            let (key, needed) = entry.map_err(away)?;
            let (of, unit) = key.value();
            if of != self.number {
                break;
            }
            fence.insert(super::unit_of(unit)?, position(needed.value()));
        }
        Ok(fence)
    }

    fn stamps(&mut self, id: &RecordId) -> Result<Stamps, StoreError> {
        let stamps = self.transaction.open_table(STAMPS).map_err(away)?;
        let text = stamps.get((self.number, id.to_string().as_str()));
        let text = text.map_err(away)?;
        Ok(text.map_or_else(Stamps::default, |text| Stamps::read(text.value())))
    }

    fn set_stamps(&mut self, id: &RecordId, stamps: &Stamps) -> Result<(), StoreError> {
        let (number, id, text) = (self.number, id.to_string(), stamps.to_string());
        let mut table = self.transaction.open_table(STAMPS).map_err(away)?;
        let mut due = self.transaction.open_table(STAMPS_DUE).map_err(away)?;
        let before = table.insert((number, id.as_str()), text.as_str());
        if let Some(before) = before.map_err(away)? {
            let forget_ms = Stamps::read(before.value()).forget_ms();
            due.remove((forget_ms, number, id.as_str())).map_err(away)?;
        }
        let key = (stamps.forget_ms(), number, id.as_str());
        due.insert(key, ()).map_err(away)?;
        Ok(())
    }

    fn log_conflict(&mut self, conflict: Conflict) -> Result<(), StoreError> {
        let mut table = self.transaction.open_table(CONFLICTS).map_err(away)?;
        let all = (self.number, 0)..=(self.number, u64::MAX);
        let mut last = 0;
        if let Some(row) = table.range(all).map_err(away)?.next_back() {
            last = row.map_err(away)?.0.value().1;
        }
        let key = (self.number, last + 1);
        let text = encode(&conflict)?;
        table.insert(key, text.as_str()).map_err(away)?;
        if let Some(old) = (last + 1).checked_sub(CONFLICTS_MAX) {
            table.remove((self.number, old)).map_err(away)?;
        }
        Ok(())
    }
}
