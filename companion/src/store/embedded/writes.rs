//! The changes of records, each inside the transaction that it is given: the steps that the Lua scripts do
//! in Redis, in the same order.

use redb::{ReadableTable as _, WriteTransaction};
use unitring_protocol::record::{Clock, Position, RecordId, Version};

use super::applies::applied_of;
use super::tables::{CHANGES, DIGESTS, EXPIRING, GONE, HEADS, META, OUTBOX, VALUES, VERSIONS};
use super::{Embedded, away};
use crate::replica::digest::{bucket_of, share};
use crate::replica::{Mark, Part};
use crate::store::{CHANGES_MAX, Change, Condition, Outcome, SWEPT_MAX, StoreError, Written};

/// Sorts behind every id: no name begins with such a character.
const LAST: &str = "\u{10ffff}";

/// What a bucket knows of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meta {
    pub(super) clock: Clock,
    /// That of what does not expire.
    pub(super) digest: u64,
    /// How far the ops of this unit go.
    pub(super) own: Position,
}

impl Meta {
    pub(super) fn of(transaction: &WriteTransaction, bucket: u8) -> Result<Self, StoreError> {
        let table = transaction.open_table(META).map_err(away)?;
        let meta = table.get(bucket).map_err(away)?;
        Ok(meta.map_or_else(Self::default, |meta| meta.value().into()))
    }

    pub(super) fn put(self, transaction: &WriteTransaction, bucket: u8) -> Result<(), StoreError> {
        let mut table = transaction.open_table(META).map_err(away)?;
        let row = (
            self.clock.ms,
            self.clock.counter,
            self.own.sequence,
            self.digest,
            self.own.incarnation,
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

/// Mixes what a record adds to its bucket into the digest that it is in; twice is not at all.
fn mix(
    transaction: &WriteTransaction,
    (bucket, id): (u8, &str),
    mark: &Mark,
    meta: &mut Meta,
) -> Result<(), StoreError> {
    let share = share(id, &mark.to_string()).0;
    let epoch = match mark.part() {
        None => return Ok(()),
        Some(Part::Lasting) => {
            meta.digest ^= share;
            return Ok(());
        }
        Some(Part::Epoch(epoch)) => epoch,
    };
    let mut digests = transaction.open_table(DIGESTS).map_err(away)?;
    let before = digests.get((bucket, epoch)).map_err(away)?;
    let mixed = before.map_or(0, |before| before.value()) ^ share;
    if mixed == 0 {
        digests.remove((bucket, epoch)).map_err(away)?;
    } else {
        digests.insert((bucket, epoch), mixed).map_err(away)?;
    }
    Ok(())
}

/// Puts a record in place of what is there, and keeps the digest right; without a mark nothing of it is
/// kept.
pub(super) fn replace(
    transaction: &WriteTransaction,
    (bucket, id): (u8, &str),
    mark: Option<&Mark>,
    value: Option<&[u8]>,
    now_ms: u64,
    meta: &mut Meta,
) -> Result<(), StoreError> {
    let mut versions = transaction.open_table(VERSIONS).map_err(away)?;
    let mut values = transaction.open_table(VALUES).map_err(away)?;
    let mut expiring = transaction.open_table(EXPIRING).map_err(away)?;
    let mut gone = transaction.open_table(GONE).map_err(away)?;
    let key = (bucket, id);
    let old = match mark {
        Some(mark) => versions.insert(key, mark.to_string().as_str()),
        None => versions.remove(key),
    };
    let old = old.map_err(away)?.map(|old| old.value().parse::<Mark>());
    if let Some(old) = old.transpose()? {
        mix(transaction, key, &old, meta)?;
        if let Some(expires_ms) = old.expires_ms {
            expiring.remove((expires_ms, bucket, id)).map_err(away)?;
        }
        gone.remove(key).map_err(away)?;
    }
    if let Some(mark) = mark {
        mix(transaction, key, mark, meta)?;
        if let Some(expires_ms) = mark.expires_ms {
            expiring
                .insert((expires_ms, bucket, id), ())
                .map_err(away)?;
        }
        if mark.is_deleted || mark.expires_ms.is_some() {
            let at_ms = mark.expires_ms.unwrap_or(now_ms).max(now_ms);
            gone.insert(key, at_ms).map_err(away)?;
        }
    }
    match value {
        Some(value) => drop(values.insert(key, value).map_err(away)?),
        None => drop(values.remove(key).map_err(away)?),
    }
    Ok(())
}

/// Appends to the log of changes.
pub(super) fn note(
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

pub(super) fn mark_in(
    transaction: &WriteTransaction,
    bucket: u8,
    id: &str,
) -> Result<Option<Mark>, StoreError> {
    let versions = transaction.open_table(VERSIONS).map_err(away)?;
    let mark = versions.get((bucket, id)).map_err(away)?;
    Ok(mark.map(|mark| mark.value().parse()).transpose()?)
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
    let live = there.as_ref().filter(|mark| mark.is_live(now_ms));
    let live = live.map(|mark| mark.version.clone());
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
    // What others have of this unit beyond what is here was made by a store that is lost. Its numbers are not
    // used again: they are those of other ops.
    let lost = applied_of(transaction, bucket, &store.unit)?;
    if meta.own.incarnation == 0 || meta.own < lost {
        meta.own.incarnation = now_ms.max(lost.incarnation.saturating_add(1));
        if outbox_is_empty(transaction, bucket)? {
            meta.own.sequence = 0;
        }
    }
    meta.own.sequence += 1;
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
    replace(transaction, (bucket, &id), kept, value, now_ms, &mut meta)?;
    note(transaction, (bucket, &id), &mark)?;
    if store.has_peers {
        let mut outbox = transaction.open_table(OUTBOX).map_err(away)?;
        let text = mark.to_string();
        let over = there.map_or_else(String::new, |mark| mark.version.to_string());
        let value = value.unwrap_or_default();
        let row = (id.as_str(), text.as_str(), value, over.as_str());
        let key = (bucket, meta.own.sequence);
        outbox.insert(key, row).map_err(away)?;
    }
    meta.put(transaction, bucket)?;
    Ok(Outcome::Done(Written {
        version: mark.version,
        created: live.is_none(),
    }))
}

fn outbox_is_empty(transaction: &WriteTransaction, bucket: u8) -> Result<bool, StoreError> {
    let outbox = transaction.open_table(OUTBOX).map_err(away)?;
    let mut ops = outbox
        .range((bucket, 0)..=(bucket, u64::MAX))
        .map_err(away)?;
    Ok(ops.next().is_none())
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
            replace(transaction, (*bucket, id), None, None, now_ms, &mut meta)?;
            meta.put(transaction, *bucket)?;
        }
    }
    Ok(u64::try_from(gone.len()).unwrap_or(u64::MAX))
}
