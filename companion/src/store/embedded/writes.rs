//! The changes of records, each inside the transaction that it is given: the steps that the Lua scripts do
//! in Redis, in the same order.

use redb::{ReadableTable as _, WriteTransaction};
use unitring_protocol::record::{Clock, Record, RecordId, Version};

use super::tables::{APPLIED, CHANGES, EXPIRING, HEADS, META, OUTBOX, VALUES, VERSIONS};
use super::{Embedded, away};
use crate::store::digest::{Mark, bucket_of, share};
use crate::store::{
    Applied, Batch, CHANGES_MAX, Change, Condition, Outcome, SWEPT_MAX, StoreError, Written,
};

/// Sorts behind every id: no name begins with such a character.
const LAST: &str = "\u{10ffff}";

/// What a bucket knows of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meta {
    clock: Clock,
    pub(super) sequence: u64,
    pub(super) digest: u64,
}

impl Meta {
    fn of(transaction: &WriteTransaction, bucket: u8) -> Result<Self, StoreError> {
        let table = transaction.open_table(META).map_err(away)?;
        let meta = table.get(bucket).map_err(away)?;
        Ok(meta.map_or_else(Self::default, |meta| meta.value().into()))
    }

    fn put(self, transaction: &WriteTransaction, bucket: u8) -> Result<(), StoreError> {
        let mut table = transaction.open_table(META).map_err(away)?;
        let row = (
            self.clock.ms,
            self.clock.counter,
            self.sequence,
            self.digest,
        );
        table.insert(bucket, row).map_err(away)?;
        Ok(())
    }

    /// The next local clock: now, or a tick after the last if that is not over.
    fn tick(&mut self, now_ms: u64) {
        self.clock = if now_ms > self.clock.ms {
            Clock {
                ms: now_ms,
                counter: 0,
            }
        } else if let Some(counter) = self.clock.counter.checked_add(1) {
            Clock {
                ms: self.clock.ms,
                counter,
            }
        } else {
            Clock {
                ms: self.clock.ms.saturating_add(1),
                counter: 0,
            }
        };
    }
}

impl From<(u64, u32, u64, u64)> for Meta {
    fn from((ms, counter, sequence, digest): (u64, u32, u64, u64)) -> Self {
        Self {
            clock: Clock { ms, counter },
            sequence,
            digest,
        }
    }
}

/// Puts a record in place of what is there, and keeps the digest right; without a mark nothing of it is
/// kept.
fn replace(
    transaction: &WriteTransaction,
    (bucket, id): (u8, &str),
    mark: Option<&Mark>,
    value: Option<&[u8]>,
    meta: &mut Meta,
) -> Result<(), StoreError> {
    let mut versions = transaction.open_table(VERSIONS).map_err(away)?;
    let mut values = transaction.open_table(VALUES).map_err(away)?;
    let mut expiring = transaction.open_table(EXPIRING).map_err(away)?;
    let key = (bucket, id);
    let text = mark.map(Mark::to_string);
    let old = match &text {
        Some(text) => versions.insert(key, text.as_str()).map_err(away)?,
        None => versions.remove(key).map_err(away)?,
    };
    if let Some(old) = old {
        meta.digest ^= share(id, old.value()).0;
        if let Some(expires_ms) = old.value().parse::<Mark>()?.expires_ms {
            expiring.remove((expires_ms, bucket, id)).map_err(away)?;
        }
    }
    if let (Some(mark), Some(text)) = (mark, &text) {
        meta.digest ^= share(id, text).0;
        if let Some(expires_ms) = mark.expires_ms {
            expiring
                .insert((expires_ms, bucket, id), ())
                .map_err(away)?;
        }
    }
    match value {
        Some(value) => drop(values.insert(key, value).map_err(away)?),
        None => drop(values.remove(key).map_err(away)?),
    }
    Ok(())
}

/// Appends to the log of changes.
fn note(
    transaction: &WriteTransaction,
    (bucket, id): (u8, &str),
    mark: &Mark,
) -> Result<(), StoreError> {
    let mut heads = transaction.open_table(HEADS).map_err(away)?;
    let mut changes = transaction.open_table(CHANGES).map_err(away)?;
    let head = heads
        .get(bucket)
        .map_err(away)?
        .map_or(0, |head| head.value());
    let number = head.saturating_add(1);
    heads.insert(bucket, number).map_err(away)?;
    changes
        .insert((bucket, number), (id, mark.to_string().as_str()))
        .map_err(away)?;
    if let Some(old) = number.checked_sub(CHANGES_MAX) {
        changes.remove((bucket, old)).map_err(away)?;
    }
    Ok(())
}

fn mark_in(
    transaction: &WriteTransaction,
    bucket: u8,
    id: &str,
) -> Result<Option<Mark>, StoreError> {
    let versions = transaction.open_table(VERSIONS).map_err(away)?;
    let mark = versions.get((bucket, id)).map_err(away)?;
    mark.map(|mark| mark.value().parse()).transpose()
}

pub(super) fn write(
    transaction: &WriteTransaction,
    store: &Embedded,
    id: &RecordId,
    change: Change<'_>,
    condition: &Condition,
    now_ms: u64,
) -> Result<Outcome, StoreError> {
    let bucket = bucket_of(id);
    let id = id.to_string();
    let there = mark_in(transaction, bucket, &id)?;
    let live = there.filter(|mark| mark.is_live(now_ms));
    let live = live.map(|mark| mark.version);
    if !condition.holds(live.as_ref()) {
        return Ok(Outcome::Refused(live));
    }
    let (value, expires_ms) = match change {
        Change::Put { value, expires_ms } => (Some(value), expires_ms),
        Change::Delete if live.is_none() => return Ok(Outcome::Nothing),
        Change::Delete => (None, None),
    };
    let mut meta = Meta::of(transaction, bucket)?;
    meta.tick(now_ms);
    meta.sequence += 1;
    let mark = Mark {
        version: Version {
            clock: meta.clock,
            unit: store.unit.clone(),
        },
        is_deleted: value.is_none(),
        expires_ms,
    };
    // Where nobody else has to learn of a deletion, nothing of it is kept.
    let kept = Some(&mark).filter(|mark| store.has_peers || !mark.is_deleted);
    replace(transaction, (bucket, &id), kept, value, &mut meta)?;
    note(transaction, (bucket, &id), &mark)?;
    if store.has_peers {
        let mut outbox = transaction.open_table(OUTBOX).map_err(away)?;
        let text = mark.to_string();
        let row = (id.as_str(), text.as_str(), value.unwrap_or_default());
        outbox.insert((bucket, meta.sequence), row).map_err(away)?;
    }
    meta.put(transaction, bucket)?;
    Ok(Outcome::Done(Written {
        version: mark.version,
        created: live.is_none(),
    }))
}

/// Frees the values that have expired; without peers, nothing of these records is kept.
pub(super) fn sweep(
    transaction: &WriteTransaction,
    store: &Embedded,
    now_ms: u64,
) -> Result<u64, StoreError> {
    let expiring = transaction.open_table(EXPIRING).map_err(away)?;
    let mut gone = Vec::new();
    for row in expiring.range(..=(now_ms, u8::MAX, LAST)).map_err(away)? {
        if gone.len() >= SWEPT_MAX {
            break;
        }
        let (key, _) = row.map_err(away)?;
        let (expires_ms, bucket, id) = key.value();
        gone.push((expires_ms, bucket, id.to_owned()));
    }
    drop(expiring);
    for (expires_ms, bucket, id) in &gone {
        if store.has_peers {
            let mut values = transaction.open_table(VALUES).map_err(away)?;
            values.remove((*bucket, id.as_str())).map_err(away)?;
            let mut expiring = transaction.open_table(EXPIRING).map_err(away)?;
            let key = (*expires_ms, *bucket, id.as_str());
            expiring.remove(key).map_err(away)?;
        } else {
            let mut meta = Meta::of(transaction, *bucket)?;
            replace(transaction, (*bucket, id), None, None, &mut meta)?;
            meta.put(transaction, *bucket)?;
        }
    }
    Ok(u64::try_from(gone.len()).unwrap_or(u64::MAX))
}

pub(super) fn apply(
    transaction: &WriteTransaction,
    store: &Embedded,
    bucket: u8,
    batch: &Batch,
    now_ms: u64,
) -> Result<Applied, StoreError> {
    let mut meta = Meta::of(transaction, bucket)?;
    let mut applied = Applied::default();
    let records: Vec<&Record> = match batch {
        Batch::Ops { ops, .. } => ops.iter().map(|op| &op.record).collect(),
        Batch::Records { records, .. } => records.iter().collect(),
    };
    for record in records {
        let id = record.id.to_string();
        meta.clock = meta.clock.max(record.version.clock);
        let there = mark_in(transaction, bucket, &id)?;
        if there.is_some_and(|mark| mark.version >= record.version) {
            continue;
        }
        let value = record.live(now_ms).map(|value| value.0.as_slice());
        let mark = Mark::of(record);
        replace(transaction, (bucket, &id), Some(&mark), value, &mut meta)?;
        note(transaction, (bucket, &id), &mark)?;
        applied.changed += 1;
    }
    let mut positions = transaction.open_table(APPLIED).map_err(away)?;
    match batch {
        Batch::Ops { origin, ops } => {
            let key = (bucket, origin.as_str());
            let before = positions
                .get(key)
                .map_err(away)?
                .map_or(0, |position| position.value());
            let mut position = before;
            for op in ops {
                if op.sequence == position + 1 {
                    position = op.sequence;
                } else if op.sequence > position {
                    applied.gaps += 1;
                }
            }
            positions.insert(key, position).map_err(away)?;
        }
        Batch::Records {
            positions: claims, ..
        } => {
            for (unit, &claim) in claims {
                if *unit == store.unit {
                    meta.sequence = meta.sequence.max(claim);
                    continue;
                }
                let key = (bucket, unit.as_str());
                let before = positions
                    .get(key)
                    .map_err(away)?
                    .map_or(0, |old| old.value());
                positions.insert(key, claim.max(before)).map_err(away)?;
            }
        }
    }
    meta.put(transaction, bucket)?;
    Ok(applied)
}
