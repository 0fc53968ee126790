//! [`Outbox`] in the file: each method is one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Durability, ReadTransaction, ReadableTable as _, WriteTransaction};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, Record, Value};

use super::bucket::Meta;
use super::tables::{CURSORS, META, OUTBOX, TRACES};
use super::{Embedded, away, unit_of};
use crate::replica::InvalidMark;
use crate::replica::digest::record_id;
use crate::store::{
    BATCH_BYTES_MAX, BATCH_MAX, Backlog, Cursors, Mark, Outbox, Spoiled, StoreError, Waiting,
};

/// An op of the outbox; an error if no unitring wrote it.
fn op(
    sequence: u64,
    (id, mark, over): (&str, &str, &str),
    value: &[u8],
    trace: Option<&str>,
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
        trace: trace.and_then(|text| text.parse().ok()),
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
    let traces = transaction.open_table(TRACES).map_err(away)?;
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
        let trace = traces.get(key.value()).map_err(away)?;
        let trace = trace
            .as_ref()
            .and_then(|trace| trace.value().split_once(' '));
        let trace = trace.filter(|(of, _)| *of == mark).map(|(_, trace)| trace);
        match op(sequence, (id, mark, over), value, trace) {
            Ok(op) => ops.push(op),
            Err(why) => {
                spoiled.note(id, &why);
                waiting.passed.insert(sequence);
            }
        }
    }
    Ok(waiting)
}

/// Forgets the traces of the ops up to this one, which left the outbox.
fn forget_traces(
    transaction: &WriteTransaction,
    bucket: u8,
    through: u64,
) -> Result<(), StoreError> {
    let mut traces = transaction.open_table(TRACES).map_err(away)?;
    let gone = (bucket, 0)..=(bucket, through);
    let gone = traces.extract_from_if(gone, |_, _| true).map_err(away)?;
    for row in gone {
        row.map_err(away)?;
    }
    Ok(())
}

/// The position of the last op of this unit.
fn own_position(transaction: &WriteTransaction, bucket: u8) -> Result<Position, StoreError> {
    let table = transaction.open_table(META).map_err(away)?;
    let meta = table.get(bucket).map_err(away)?;
    Ok(meta
        .map_or_else(Meta::default, |meta| meta.value().into())
        .own)
}

#[async_trait]
impl Outbox for Embedded {
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
                forget_traces(transaction, bucket, first)?;
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
                let mut last = 0;
                for row in outbox.extract_from_if(all, oldest).map_err(away)? {
                    let (key, _) = row.map_err(away)?;
                    last = key.value().1;
                    removed += 1;
                }
                forget_traces(transaction, bucket, last)?;
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
}
