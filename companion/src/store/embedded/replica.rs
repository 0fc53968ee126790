//! [`Replica`] in the file: each method is one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Durability, ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, Record};

use super::bucket::{Meta, Rows};
use super::housekeeping::forget_stamps;
use super::tables::{APPLIED, CONFLICTS, DIGESTS, FENCE, GONE, META, OUTBOX, VALUES, VERSIONS};
use super::{Embedded, away, decode, unit_of};
use crate::replica::bounds::ahead;
use crate::replica::digest::{record_id, share};
use crate::replica::stamps::STAMPS_KEPT_MS;
use crate::replica::transaction::{self, BucketTransaction as _};
use crate::replica::{Bucket, Part, epoch};
use crate::store::{
    Applied, BATCH_BYTES_MAX, BATCH_MAX, Batch, Conflict, Held, Mark, Page, Recounted, Replica,
    StoreError,
};

/// The state of a bucket.
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

fn apply(
    transaction: &WriteTransaction,
    store: &Embedded,
    bucket: u8,
    batch: &Batch,
    now_ms: u64,
) -> Result<Applied, StoreError> {
    let mut rows = Rows::of(transaction, store, bucket)?;
    let applied = transaction::apply(&mut rows, &store.rules, batch, now_ms)?;
    rows.finish()?;
    Ok(applied)
}

/// Recomputes the digests of a bucket; returns whether they were wrong. Corrupt rows are in no
/// digest.
fn recount(
    transaction: &WriteTransaction,
    store: &Embedded,
    (bucket, now_ms): (u8, u64),
) -> Result<Recounted, StoreError> {
    let mut counted: BTreeMap<Part, u64> = BTreeMap::new();
    let mut lost = Vec::new();
    let values = transaction.open_table(VALUES).map_err(away)?;
    let versions = transaction.open_table(VERSIONS).map_err(away)?;
    for row in versions.range((bucket, "")..).map_err(away)? {
        let (key, mark) = row.map_err(away)?;
        let (of, id) = key.value();
        if of != bucket {
            break;
        }
        let mark = store.spoiled.keep(id, mark.value().parse::<Mark>());
        let has_value = values.get((bucket, id)).map_err(away)?.is_some();
        if mark
            .as_ref()
            .is_some_and(|mark| mark.has_lost(has_value, now_ms))
        {
            lost.push(record_id(id)?);
            continue;
        }
        let part = mark.as_ref().and_then(Mark::part);
        if let (Some(mark), Some(part)) = (mark, part) {
            *counted.entry(part).or_default() ^= share(id, &mark.to_string()).0;
        }
    }
    drop((versions, values));
    if !lost.is_empty() {
        let mut rows = Rows::of(transaction, store, bucket)?;
        transaction::forget(&mut rows, &lost)?;
        rows.finish()?;
    }
    let lost = u64::try_from(lost.len()).unwrap_or(u64::MAX);
    let mut kept: BTreeMap<Part, u64> = BTreeMap::new();
    let mut digests = transaction.open_table(DIGESTS).map_err(away)?;
    for row in digests
        .range((bucket, 0)..=(bucket, u64::MAX))
        .map_err(away)?
    {
        let (key, digest) = row.map_err(away)?;
        kept.insert(Part::Epoch(key.value().1), digest.value());
    }
    let mut rows = Rows::of(transaction, store, bucket)?;
    kept.insert(Part::Lasting, rows.meta.digest);
    kept.retain(|_, digest| *digest != 0);
    counted.retain(|_, digest| *digest != 0);
    let was_wrong = kept != counted;
    if !was_wrong {
        return Ok(Recounted {
            was_wrong,
            lost,
            unread: None,
        });
    }
    digests
        .retain_in((bucket, 0)..=(bucket, u64::MAX), |_, _| false)
        .map_err(away)?;
    drop(digests);
    rows.meta.digest = 0;
    for (part, share) in counted {
        rows.mix(part, share)?;
    }
    rows.finish()?;
    Ok(Recounted {
        was_wrong,
        lost,
        unread: None,
    })
}

/// Removes the positions of incarnations of the future; returns their buckets.
fn forget_positions(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, (u8, &'static str), (u64, u64)>,
    now_ms: u64,
) -> Result<BTreeSet<u8>, StoreError> {
    let mut buckets = BTreeSet::new();
    let mut table = transaction.open_table(table).map_err(away)?;
    let stays = |key: (u8, &str), (incarnation, _): (u64, u64)| {
        let goes = ahead(incarnation, now_ms).is_some();
        if goes {
            buckets.insert(key.0);
        }
        !goes
    };
    table.retain(stays).map_err(away)?;
    Ok(buckets)
}

/// Leads all buckets back from a clock of the future, as reset.lua does.
fn set_back(transaction: &WriteTransaction, now_ms: u64) -> Result<Vec<u8>, StoreError> {
    let mut reset = forget_positions(transaction, APPLIED, now_ms)?;
    reset.extend(forget_positions(transaction, FENCE, now_ms)?);
    // Stamps of the future would refuse the updates of their sources until then. Redis expires its own by its clock; one
    // that stays here for an hour longer than there does no harm.
    let last_ms = now_ms.saturating_add(2 * STAMPS_KEPT_MS);
    forget_stamps(transaction, last_ms.., usize::MAX)?;
    let mut table = transaction.open_table(META).map_err(away)?;
    let outbox = transaction.open_table(OUTBOX).map_err(away)?;
    let mut back = Vec::new();
    for row in table.iter().map_err(away)? {
        let (number, row) = row.map_err(away)?;
        let (number, meta) = (number.value(), Meta::from(row.value()));
        let all = (number, 0)..=(number, u64::MAX);
        let is_empty = outbox.range(all).map_err(away)?.next().is_none();
        let bucket = Bucket {
            clock: meta.clock,
            own: meta.own,
            known: Position::default(),
        };
        let is_ahead = |ms| ahead(ms, now_ms).is_some();
        if let Some(bucket) = bucket.set_back(is_ahead, is_empty, now_ms) {
            let (clock, own) = (bucket.clock, bucket.own);
            let row = (
                clock.ms,
                clock.counter,
                own.sequence,
                meta.digest,
                own.incarnation,
            );
            back.push((number, row));
        }
    }
    for (number, row) in &back {
        table.insert(number, row).map_err(away)?;
        reset.insert(*number);
    }
    Ok(reset.into_iter().collect())
}

#[async_trait]
impl Replica for Embedded {
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

    async fn recount(&self, bucket: u8, now_ms: u64) -> Result<Recounted, StoreError> {
        self.change(Durability::Immediate, move |transaction, store| {
            recount(transaction, store, (bucket, now_ms))
        })
        .await
    }

    async fn reset_clocks(&self, now_ms: u64) -> Result<Vec<u8>, StoreError> {
        let reset = self
            .change(Durability::Immediate, move |transaction, _| {
                set_back(transaction, now_ms)
            })
            .await?;
        self.believe(now_ms).await?;
        Ok(reset)
    }
}
