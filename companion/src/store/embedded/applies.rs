//! Changes of other units, each batch inside the transaction that it is given: what apply.lua does.

use std::collections::BTreeMap;

use redb::{ReadableTable as _, WriteTransaction};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, Record, Value, Version};

use super::tables::{APPLIED, CONFLICTS, FENCE, GONE, VALUES};
use super::writes::{Meta, mark_in, note, replace};
use super::{Embedded, away, encode};
use crate::replica::Mark;
use crate::replica::digest::record_id;
use crate::store::{
    Applied, Batch, COLLECTED_MAX, CONFLICT_VALUE_MAX, CONFLICTS_MAX, Conflict, StoreError,
};

fn position(row: (u64, u64)) -> Position {
    let (incarnation, sequence) = row;
    Position {
        incarnation,
        sequence,
    }
}

fn row(position: Position) -> (u64, u64) {
    (position.incarnation, position.sequence)
}

pub(super) fn applied_of(
    transaction: &WriteTransaction,
    bucket: u8,
    unit: &UnitId,
) -> Result<Position, StoreError> {
    let table = transaction.open_table(APPLIED).map_err(away)?;
    let found = table.get((bucket, unit.as_str())).map_err(away)?;
    Ok(found.map_or_else(Position::default, |found| position(found.value())))
}

/// Whether whoever had these positions may send what is forgotten here.
fn is_fenced(
    transaction: &WriteTransaction,
    bucket: u8,
    positions: &BTreeMap<UnitId, Position>,
) -> Result<bool, StoreError> {
    let fence = transaction.open_table(FENCE).map_err(away)?;
    for entry in fence.range((bucket, "")..).map_err(away)? {
        let (key, needed) = entry.map_err(away)?;
        let (of, unit) = key.value();
        if of != bucket {
            break;
        }
        let has = positions.get(unit).copied().unwrap_or_default();
        if has < position(needed.value()) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn apply(
    transaction: &WriteTransaction,
    store: &Embedded,
    bucket: u8,
    batch: &Batch,
    now_ms: u64,
) -> Result<Applied, StoreError> {
    let mut apply = Apply {
        transaction,
        store,
        bucket,
        now_ms,
        meta: Meta::of(transaction, bucket)?,
        applied: Applied::default(),
    };
    match batch {
        Batch::Ops {
            origin,
            incarnation,
            ops,
        } => apply.ops(origin, *incarnation, ops)?,
        Batch::Records {
            records,
            positions,
            clock,
            is_last,
        } => {
            let fenced = is_fenced(transaction, bucket, positions)?;
            for record in records {
                apply.record(record, fenced)?;
            }
            if *is_last {
                apply.meta.clock = apply.meta.clock.max(*clock);
                apply.claim(positions)?;
            }
        }
    }
    apply.meta.put(transaction, bucket)?;
    Ok(apply.applied)
}

/// One batch on its way in.
struct Apply<'a> {
    transaction: &'a WriteTransaction,
    store: &'a Embedded,
    bucket: u8,
    now_ms: u64,
    meta: Meta,
    applied: Applied,
}

impl Apply<'_> {
    fn ops(&mut self, origin: &UnitId, incarnation: u64, ops: &[Op]) -> Result<(), StoreError> {
        let mut at = applied_of(self.transaction, self.bucket, origin)?;
        for op in ops {
            let here = Position {
                incarnation,
                sequence: op.sequence,
            };
            let is_covered = here <= at;
            self.op(op, is_covered)?;
            let is_next = incarnation == at.incarnation && op.sequence == at.sequence + 1;
            if is_next || (incarnation > at.incarnation && op.sequence == 1) {
                at = here;
            } else if !is_covered {
                self.applied.gaps += 1;
            }
        }
        if at.sequence > 0 {
            let mut table = self.transaction.open_table(APPLIED).map_err(away)?;
            let key = (self.bucket, origin.as_str());
            table.insert(key, row(at)).map_err(away)?;
        }
        Ok(())
    }

    fn op(&mut self, op: &Op, is_covered: bool) -> Result<(), StoreError> {
        let id = op.record.id.to_string();
        let there = mark_in(self.transaction, self.bucket, &id)?;
        let Some(old) = there else {
            self.meta.clock = self.meta.clock.max(op.record.version.clock);
            // If it was here before, it was forgotten since.
            return if is_covered {
                Ok(())
            } else {
                self.put(&op.record)
            };
        };
        let is_later = old.version < op.record.version;
        if !is_covered {
            self.notice(op, &old, is_later)?;
        }
        self.meta.clock = self.meta.clock.max(op.record.version.clock);
        if is_later {
            self.put(&op.record)
        } else {
            Ok(())
        }
    }

    /// Whether the op and what is there did not know of each other.
    fn notice(&mut self, op: &Op, old: &Mark, is_later: bool) -> Result<(), StoreError> {
        let (mine, theirs) = (&old.version, &op.record.version);
        let unknown = match &op.over {
            Some(over) => over < mine,
            None => !old.is_deleted,
        };
        let new = Mark::of(&op.record);
        if is_later && mine.unit != theirs.unit && unknown {
            let id = op.record.id.to_string();
            let values = self.transaction.open_table(VALUES).map_err(away)?;
            let value = values.get((self.bucket, id.as_str())).map_err(away)?;
            let value = value.map(|value| Value(value.value().to_vec()));
            self.conflict(&op.record, old, &new.version, value)
        } else if !is_later && mine.unit == self.store.unit && mine.unit != theirs.unit {
            let value = op.record.live(self.now_ms).cloned();
            self.conflict(&op.record, &new, mine, value)
        } else {
            Ok(())
        }
    }

    fn conflict(
        &mut self,
        record: &Record,
        lost: &Mark,
        kept: &Version,
        value: Option<Value>,
    ) -> Result<(), StoreError> {
        self.applied.conflicts += 1;
        let conflict = Conflict {
            at_ms: self.now_ms,
            record: record.id.clone(),
            lost: lost.to_string(),
            kept: kept.to_string(),
            value: value.filter(|value| value.0.len() <= CONFLICT_VALUE_MAX),
        };
        let mut table = self.transaction.open_table(CONFLICTS).map_err(away)?;
        let all = (self.bucket, 0)..=(self.bucket, u64::MAX);
        let mut last = 0;
        if let Some(row) = table.range(all).map_err(away)?.next_back() {
            last = row.map_err(away)?.0.value().1;
        }
        let key = (self.bucket, last + 1);
        let text = encode(&conflict)?;
        table.insert(key, text.as_str()).map_err(away)?;
        if let Some(old) = (last + 1).checked_sub(CONFLICTS_MAX) {
            table.remove((self.bucket, old)).map_err(away)?;
        }
        Ok(())
    }

    fn record(&mut self, record: &Record, is_fenced: bool) -> Result<(), StoreError> {
        self.meta.clock = self.meta.clock.max(record.version.clock);
        match mark_in(self.transaction, self.bucket, &record.id.to_string())? {
            Some(mark) if mark.version >= record.version => Ok(()),
            None if is_fenced => {
                self.applied.refused += 1;
                Ok(())
            }
            Some(_) | None => self.put(record),
        }
    }

    fn put(&mut self, record: &Record) -> Result<(), StoreError> {
        let id = record.id.to_string();
        let mark = Mark::of(record);
        let value = record.live(self.now_ms).map(|value| value.0.as_slice());
        let key = (self.bucket, id.as_str());
        let meta = &mut self.meta;
        replace(self.transaction, key, Some(&mark), value, self.now_ms, meta)?;
        note(self.transaction, key, &mark)?;
        self.applied.changed += 1;
        Ok(())
    }

    fn claim(&mut self, positions: &BTreeMap<UnitId, Position>) -> Result<(), StoreError> {
        for (unit, &claim) in positions {
            if claim > applied_of(self.transaction, self.bucket, unit)? {
                let mut table = self.transaction.open_table(APPLIED).map_err(away)?;
                let key = (self.bucket, unit.as_str());
                table.insert(key, row(claim)).map_err(away)?;
            }
        }
        Ok(())
    }
}

/// Forgets what was gone before this moment: what sweep.lua does.
pub(super) fn collect(
    transaction: &WriteTransaction,
    bucket: u8,
    before_ms: u64,
    fence: &BTreeMap<UnitId, Position>,
) -> Result<u64, StoreError> {
    let mut gone = Vec::new();
    let table = transaction.open_table(GONE).map_err(away)?;
    for entry in table.range((bucket, "")..).map_err(away)? {
        let (key, at_ms) = entry.map_err(away)?;
        let (of, id) = key.value();
        if of != bucket || gone.len() >= COLLECTED_MAX {
            break;
        }
        if at_ms.value() <= before_ms {
            gone.push(record_id(id)?.to_string());
        }
    }
    drop(table);
    let mut meta = Meta::of(transaction, bucket)?;
    for id in &gone {
        replace(transaction, (bucket, id), None, None, before_ms, &mut meta)?;
    }
    meta.put(transaction, bucket)?;
    if !gone.is_empty() {
        let mut table = transaction.open_table(FENCE).map_err(away)?;
        for (unit, &needed) in fence {
            let key = (bucket, unit.as_str());
            table.insert(key, row(needed)).map_err(away)?;
        }
    }
    Ok(u64::try_from(gone.len()).unwrap_or(u64::MAX))
}
