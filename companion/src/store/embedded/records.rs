//! [`Records`] in the file: the steps that the Lua scripts do in Redis, in the same order.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redb::{Durability, ReadableTable, WriteTransaction};
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::record::{Clock, Op, Record, RecordId, Version};

use super::tables::{APPLIED, CHANGES, EXPIRING, HEADS, META, OUTBOX, VALUES, VERSIONS};
use super::{Embedded, away};
use crate::store::digest::{Mark, bucket_of, share};
use crate::store::{
    Applied, BATCH_BYTES_MAX, BATCH_MAX, Batch, CHANGES_MAX, Change, Condition, Outcome, Page,
    Records, SWEPT_MAX, StoreError, Written,
};

/// Sorts behind every id: no name has such a character.
const LAST: &str = "\u{10ffff}";

/// What a bucket knows of itself.
#[derive(Debug, Clone, Copy, Default)]
struct Meta {
    clock: Clock,
    sequence: u64,
    digest: u64,
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

fn write(
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

fn apply(
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

pub(super) fn record_id(text: &str) -> Result<RecordId, StoreError> {
    let corrupt = || StoreError::Corrupt(format!("record {text:?}"));
    let (dataset, key) = text.split_once('/').ok_or_else(corrupt)?;
    Ok(RecordId {
        dataset: dataset.parse().map_err(|_| corrupt())?,
        key: key.parse().map_err(|_| corrupt())?,
    })
}

#[async_trait]
impl Records for Embedded {
    async fn write_if(
        &self,
        id: &RecordId,
        change: Change<'_>,
        condition: &Condition,
        now_ms: u64,
    ) -> Result<Outcome, StoreError> {
        let (value, expires_ms) = match change {
            Change::Put { value, expires_ms } => (Some(value.to_vec()), expires_ms),
            Change::Delete => (None, None),
        };
        let (id, condition) = (id.clone(), condition.clone());
        self.change(Durability::Immediate, move |transaction, store| {
            let change = match &value {
                Some(value) => Change::Put { value, expires_ms },
                None => Change::Delete,
            };
            write(transaction, store, &id, change, &condition, now_ms)
        })
        .await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let id = id.clone();
        self.look(move |transaction| {
            let text = id.to_string();
            let key = (bucket_of(&id), text.as_str());
            let versions = transaction.open_table(VERSIONS).map_err(away)?;
            let values = transaction.open_table(VALUES).map_err(away)?;
            let Some(mark) = versions.get(key).map_err(away)? else {
                return Ok(None);
            };
            let value = values.get(key).map_err(away)?;
            let value = value.map(|value| value.value().to_vec());
            Ok(mark.value().parse::<Mark>()?.record(id.clone(), value))
        })
        .await
    }

    async fn apply(&self, bucket: u8, batch: &Batch, now_ms: u64) -> Result<Applied, StoreError> {
        let batch = batch.clone();
        self.change(Durability::Immediate, move |transaction, store| {
            apply(transaction, store, bucket, &batch, now_ms)
        })
        .await
    }

    async fn outbox(&self, bucket: u8, after: u64) -> Result<Vec<Op>, StoreError> {
        self.look(move |transaction| {
            let outbox = transaction.open_table(OUTBOX).map_err(away)?;
            let first = after.saturating_add(1);
            let mut ops = Vec::new();
            let mut bytes = 0;
            for row in outbox
                .range((bucket, first)..=(bucket, u64::MAX))
                .map_err(away)?
            {
                let (key, row) = row.map_err(away)?;
                let (id, mark, value) = row.value();
                bytes += value.len();
                if ops.len() >= BATCH_MAX || (bytes > BATCH_BYTES_MAX && !ops.is_empty()) {
                    break;
                }
                let (_, sequence) = key.value();
                let mark: Mark = mark.parse()?;
                if let Some(record) = mark.record(record_id(id)?, Some(value.to_vec())) {
                    ops.push(Op { sequence, record });
                }
            }
            Ok(ops)
        })
        .await
    }

    async fn trim(&self, bucket: u8, through: u64) -> Result<u64, StoreError> {
        self.change(Durability::Immediate, move |transaction, _| {
            let mut outbox = transaction.open_table(OUTBOX).map_err(away)?;
            let mut trimmed = 0;
            let gone = outbox
                .extract_from_if((bucket, 0)..=(bucket, through), |_, _| true)
                .map_err(away)?;
            for row in gone {
                row.map_err(away)?;
                trimmed += 1;
            }
            Ok(trimmed)
        })
        .await
    }

    async fn waiting(&self) -> Result<BTreeMap<u8, u64>, StoreError> {
        self.look(move |transaction| {
            let outbox = transaction.open_table(OUTBOX).map_err(away)?;
            let mut waiting = BTreeMap::new();
            for row in outbox.iter().map_err(away)? {
                let (bucket, _) = row.map_err(away)?.0.value();
                *waiting.entry(bucket).or_default() += 1;
            }
            Ok(waiting)
        })
        .await
    }

    async fn states(&self) -> Result<Vec<BucketState>, StoreError> {
        let unit = self.unit.clone();
        self.look(move |transaction| {
            let meta = transaction.open_table(META).map_err(away)?;
            let applied = transaction.open_table(APPLIED).map_err(away)?;
            let mut states = Vec::new();
            for row in meta.iter().map_err(away)? {
                let (bucket, meta) = row.map_err(away)?;
                let (bucket, meta) = (bucket.value(), Meta::from(meta.value()));
                let mut positions = BTreeMap::from([(unit.clone(), meta.sequence)]);
                for row in applied.range((bucket, "")..).map_err(away)? {
                    let (key, position) = row.map_err(away)?;
                    let (of, unit) = key.value();
                    if of != bucket {
                        break;
                    }
                    let unit = unit
                        .parse()
                        .map_err(|_| StoreError::Corrupt(format!("unit {unit:?}")))?;
                    positions.insert(unit, position.value());
                }
                positions.retain(|_, position| *position > 0);
                states.push(BucketState {
                    bucket,
                    digest: Digest(meta.digest),
                    positions,
                });
            }
            Ok(states)
        })
        .await
    }

    async fn page(&self, bucket: u8, page: Page) -> Result<(Vec<Record>, Page), StoreError> {
        self.look(move |transaction| {
            let versions = transaction.open_table(VERSIONS).map_err(away)?;
            let values = transaction.open_table(VALUES).map_err(away)?;
            let after = page.more.unwrap_or_default();
            let mut records = Vec::new();
            let mut bytes = 0;
            for row in versions.range((bucket, after.as_str())..).map_err(away)? {
                let (key, mark) = row.map_err(away)?;
                let (of, id) = key.value();
                if of != bucket {
                    break;
                }
                let value = values.get((bucket, id)).map_err(away)?;
                let value = value.map(|value| value.value().to_vec());
                bytes += value.as_ref().map_or(0, Vec::len);
                if records.len() >= BATCH_MAX || (bytes > BATCH_BYTES_MAX && !records.is_empty()) {
                    let more = Some(id.to_owned());
                    return Ok((
                        records,
                        Page {
                            listed: Vec::new(),
                            more,
                        },
                    ));
                }
                let mark: Mark = mark.value().parse()?;
                records.extend(mark.record(record_id(id)?, value));
            }
            Ok((
                records,
                Page {
                    listed: Vec::new(),
                    more: None,
                },
            ))
        })
        .await
    }
}
