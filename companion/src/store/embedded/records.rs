//! [`Records`] in the file: each method is one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Durability, ReadTransaction, ReadableTable as _, WriteTransaction};
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, Record, RecordId, Value};

use super::tables::{APPLIED, CONFLICTS, CURSORS, DIGESTS, GONE, META, OUTBOX, VALUES, VERSIONS};
use super::writes::{Meta, apply, collect, recount, write};
use super::{Embedded, away, decode, unit_of};
use crate::replica::bounds::{ahead, fault_of_change};
use crate::replica::digest::{bucket_of, record_id};
use crate::replica::{InvalidMark, epoch};
use crate::store::{
    Applied, BATCH_BYTES_MAX, BATCH_MAX, Backlog, Batch, Change, Condition, Conflict, Cursors,
    Held, Mark, Outcome, Page, Records, Spoiled, StoreError, Waiting,
};

/// An op of the outbox; an error if no unitring wrote it.
fn op(
    sequence: u64,
    (id, mark, over): (&str, &str, &str),
    value: &[u8],
) -> Result<Op, InvalidMark> {
    let over = match over {
        "" => None,
        over => Some(over.parse::<Mark>()?.version),
    };
    let mark: Mark = mark.parse()?;
    let value = Some(value.to_vec()).filter(|_| !mark.is_deleted);
    let record = Record {
        id: record_id(id)?,
        version: mark.version,
        value: value.map(Value),
        expires_ms: mark.expires_ms,
    };
    Ok(Op {
        sequence,
        record,
        over,
    })
}

/// The first ops of a bucket's outbox.
fn outbox(
    transaction: &ReadTransaction,
    bucket: u8,
    after: Position,
    (bytes_max, spoiled): (usize, &Spoiled),
) -> Result<Waiting, StoreError> {
    let meta = transaction.open_table(META).map_err(away)?;
    let meta = meta.get(bucket).map_err(away)?;
    let meta = meta.map_or_else(Meta::default, |meta| meta.value().into());
    let mut waiting = Waiting {
        incarnation: meta.own.incarnation,
        last: meta.own.sequence,
        ..Waiting::default()
    };
    let outbox = transaction.open_table(OUTBOX).map_err(away)?;
    let is_same = after.incarnation == waiting.incarnation;
    let after = if is_same { after.sequence } else { 0 };
    let first = (bucket, after.saturating_add(1));
    let mut bytes = 0;
    for row in outbox.range(first..=(bucket, u64::MAX)).map_err(away)? {
        let (key, row) = row.map_err(away)?;
        let (id, mark, value, over) = row.value();
        bytes += value.len();
        let ops = &mut waiting.ops;
        if ops.len() >= BATCH_MAX || (bytes > bytes_max && !ops.is_empty()) {
            waiting.more = true;
            break;
        }
        let (_, sequence) = key.value();
        match op(sequence, (id, mark, over), value) {
            Ok(op) => ops.push(op),
            Err(why) => {
                spoiled.note(id, &why);
                waiting.passed.insert(sequence);
            }
        }
    }
    Ok(waiting)
}

/// How far the ops of this unit go.
fn own_position(transaction: &WriteTransaction, bucket: u8) -> Result<Position, StoreError> {
    let table = transaction.open_table(META).map_err(away)?;
    let meta = table.get(bucket).map_err(away)?;
    Ok(meta
        .map_or_else(Meta::default, |meta| meta.value().into())
        .own)
}

/// What a bucket knows of itself.
fn held(
    transaction: &ReadTransaction,
    own: &UnitId,
    (bucket, meta): (u8, Meta),
    now_ms: u64,
) -> Result<Held, StoreError> {
    let mut positions = BTreeMap::from([(own.clone(), meta.own)]);
    let applied = transaction.open_table(APPLIED).map_err(away)?;
    for row in applied.range((bucket, "")..).map_err(away)? {
        let (key, position) = row.map_err(away)?;
        let (of, unit) = key.value();
        if of != bucket {
            break;
        }
        let (incarnation, sequence) = position.value();
        let position = Position {
            incarnation,
            sequence,
        };
        let known = positions.entry(unit_of(unit)?).or_default();
        *known = position.max(*known);
    }
    positions.retain(|_, position| position.sequence > 0);
    let mut digest = meta.digest;
    let digests = transaction.open_table(DIGESTS).map_err(away)?;
    let to_come = (bucket, epoch(now_ms).saturating_add(1))..=(bucket, u64::MAX);
    for row in digests.range(to_come).map_err(away)? {
        digest ^= row.map_err(away)?.1.value();
    }
    let mut gone_ms: Option<u64> = None;
    let gone = transaction.open_table(GONE).map_err(away)?;
    for row in gone.range((bucket, "")..).map_err(away)? {
        let (key, at_ms) = row.map_err(away)?;
        if key.value().0 != bucket {
            break;
        }
        let at_ms = at_ms.value();
        gone_ms = Some(gone_ms.map_or(at_ms, |before| before.min(at_ms)));
    }
    Ok(Held {
        state: BucketState {
            bucket,
            digest: Digest(digest),
            positions,
        },
        clock: meta.clock,
        gone_ms,
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
        if let Some(fault) = fault_of_change(&change) {
            return Err(fault.into());
        }
        let (value, expires_ms) = match change {
            Change::Put { value, expires_ms } => (Some(value.to_vec()), expires_ms),
            Change::Delete | Change::Again => (None, None),
        };
        let is_again = change == Change::Again;
        let (id, condition) = (id.clone(), condition.clone());
        self.change(Durability::Immediate, move |transaction, store| {
            let change = match &value {
                Some(value) => Change::Put { value, expires_ms },
                None if is_again => Change::Again,
                None => Change::Delete,
            };
            write(transaction, store, &id, (change, &condition), now_ms)
        })
        .await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let id = id.clone();
        let spoiled = Arc::clone(&self.spoiled);
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
            let mark = spoiled.keep(&text, mark.value().parse::<Mark>());
            Ok(mark.and_then(|mark| mark.record(id.clone(), value)))
        })
        .await
    }

    async fn apply(&self, parts: &[(u8, Batch)], now_ms: u64) -> Result<Vec<Applied>, StoreError> {
        let parts = parts.to_vec();
        self.change(Durability::Immediate, move |transaction, store| {
            let parts = parts.iter();
            parts
                .map(|(bucket, batch)| apply(transaction, store, *bucket, batch, now_ms))
                .collect()
        })
        .await
    }

    async fn outboxes(&self, asked: &[(u8, Position)]) -> Result<Vec<Waiting>, StoreError> {
        let asked = asked.to_vec();
        let spoiled = Arc::clone(&self.spoiled);
        self.look(move |transaction| {
            let bytes = BATCH_BYTES_MAX / asked.len().max(1);
            let asked = asked.iter();
            asked
                .map(|(bucket, after)| outbox(transaction, *bucket, *after, (bytes, &spoiled)))
                .collect()
        })
        .await
    }

    async fn cursors(&self) -> Result<Cursors, StoreError> {
        self.look(|transaction| {
            let table = transaction.open_table(CURSORS).map_err(away)?;
            let mut cursors = Cursors::new();
            for row in table.iter().map_err(away)? {
                let (key, cursor) = row.map_err(away)?;
                let (unit, bucket) = key.value();
                let of_unit = cursors.entry(unit_of(unit)?).or_default();
                let (incarnation, sequence) = cursor.value();
                let cursor = Position {
                    incarnation,
                    sequence,
                };
                of_unit.insert(bucket, cursor);
            }
            Ok(cursors)
        })
        .await
    }

    async fn confirm(
        &self,
        unit: &UnitId,
        cursors: &[(u8, Position)],
        members: &[UnitId],
    ) -> Result<u64, StoreError> {
        let (unit, cursors, members) = (unit.clone(), cursors.to_vec(), members.to_vec());
        self.change(Durability::Immediate, move |transaction, _| {
            let mut table = transaction.open_table(CURSORS).map_err(away)?;
            let mut outbox = transaction.open_table(OUTBOX).map_err(away)?;
            let mut removed = 0;
            for (bucket, through) in cursors {
                let own = own_position(transaction, bucket)?;
                // A store that was emptied since has other ops under these numbers.
                if through.incarnation != own.incarnation {
                    continue;
                }
                let mut first: Option<u64> = None;
                for member in members.iter().chain([&unit]) {
                    let key = (member.as_str(), bucket);
                    let cursor = table.get(key).map_err(away)?.map(|cursor| cursor.value());
                    let cursor = cursor.filter(|(of, _)| *of == own.incarnation);
                    let mut cursor = cursor.map_or(0, |(_, sequence)| sequence);
                    if *member == unit {
                        cursor = cursor.max(through.sequence);
                        table.insert(key, (own.incarnation, cursor)).map_err(away)?;
                    }
                    if members.contains(member) {
                        first = Some(first.map_or(cursor, |first| first.min(cursor)));
                    }
                }
                let Some(first) = first else { continue };
                let gone = outbox
                    .extract_from_if((bucket, 0)..=(bucket, first), |_, _| true)
                    .map_err(away)?;
                for row in gone {
                    row.map_err(away)?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn shorten(&self, keep: &[(u8, u64)]) -> Result<u64, StoreError> {
        let keep = keep.to_vec();
        self.change(Durability::Immediate, move |transaction, _| {
            let mut outbox = transaction.open_table(OUTBOX).map_err(away)?;
            let mut removed = 0;
            for (bucket, keep) in keep {
                let all = (bucket, 0)..=(bucket, u64::MAX);
                let count = outbox.range(all.clone()).map_err(away)?.count();
                let mut left = u64::try_from(count)
                    .unwrap_or(u64::MAX)
                    .saturating_sub(keep);
                let oldest = |_, _: (&str, &str, &[u8], &str)| {
                    let goes = left > 0;
                    left = left.saturating_sub(1);
                    goes
                };
                for row in outbox.extract_from_if(all, oldest).map_err(away)? {
                    row.map_err(away)?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn waiting(&self) -> Result<BTreeMap<u8, Backlog>, StoreError> {
        self.look(move |transaction| {
            let outbox = transaction.open_table(OUTBOX).map_err(away)?;
            let mut waiting: BTreeMap<u8, Backlog> = BTreeMap::new();
            for row in outbox.iter().map_err(away)? {
                let (key, row) = row.map_err(away)?;
                let (id, mark, value, over) = row.value();
                let bytes = id.len() + mark.len() + value.len() + over.len();
                let backlog = waiting.entry(key.value().0).or_default();
                backlog.ops += 1;
                backlog.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            }
            Ok(waiting)
        })
        .await
    }

    async fn states(&self, now_ms: u64) -> Result<Vec<Held>, StoreError> {
        let unit = self.rules.unit.clone();
        self.look(move |transaction| {
            let meta = transaction.open_table(META).map_err(away)?;
            let mut states = Vec::new();
            for row in meta.iter().map_err(away)? {
                let (bucket, meta) = row.map_err(away)?;
                let bucket = (bucket.value(), Meta::from(meta.value()));
                states.push(held(transaction, &unit, bucket, now_ms)?);
            }
            Ok(states)
        })
        .await
    }

    async fn collect(
        &self,
        bucket: u8,
        before_ms: u64,
        fence: &BTreeMap<UnitId, Position>,
    ) -> Result<u64, StoreError> {
        let fence = fence.clone();
        self.change(Durability::Immediate, move |transaction, store| {
            collect(transaction, store, bucket, before_ms, &fence)
        })
        .await
    }

    /// One process has the file: what its configuration says is the unit's.
    async fn agree(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn reset_clocks(&self, now_ms: u64) -> Result<Vec<u8>, StoreError> {
        self.change(Durability::Immediate, move |transaction, _| {
            let mut meta = transaction.open_table(META).map_err(away)?;
            let mut reset = Vec::new();
            for row in meta.iter().map_err(away)? {
                let (bucket, meta) = row.map_err(away)?;
                let (ms, _, sequence, digest, incarnation) = meta.value();
                if ahead(ms, now_ms).is_some() {
                    reset.push((bucket.value(), (now_ms, 0, sequence, digest, incarnation)));
                }
            }
            for (bucket, row) in &reset {
                meta.insert(bucket, row).map_err(away)?;
            }
            Ok(reset.into_iter().map(|(bucket, _)| bucket).collect())
        })
        .await
    }

    async fn recount(&self, bucket: u8) -> Result<bool, StoreError> {
        self.change(Durability::Immediate, move |transaction, store| {
            recount(transaction, store, bucket)
        })
        .await
    }

    fn spoiled(&self) -> BTreeMap<String, String> {
        self.spoiled.names()
    }

    async fn conflicts(&self, limit: usize) -> Result<Vec<Conflict>, StoreError> {
        let spoiled = Arc::clone(&self.spoiled);
        self.look(move |transaction| {
            let table = transaction.open_table(CONFLICTS).map_err(away)?;
            let mut conflicts: Vec<Conflict> = Vec::new();
            for row in table.iter().map_err(away)? {
                let row = row.map_err(away)?;
                let conflict = decode(row.1.value());
                conflicts.extend(spoiled.keep("a conflict", conflict));
            }
            conflicts.sort_by_key(|conflict| std::cmp::Reverse(conflict.at_ms));
            conflicts.truncate(limit);
            Ok(conflicts)
        })
        .await
    }

    async fn page(&self, bucket: u8, page: Page) -> Result<(Vec<Record>, Page), StoreError> {
        let spoiled = Arc::clone(&self.spoiled);
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
                let read = mark.value().parse::<Mark>();
                let read = read.and_then(|mark| Ok((record_id(id)?, mark)));
                let read = spoiled.keep(id, read);
                records.extend(read.and_then(|(id, mark)| mark.record(id, value)));
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
