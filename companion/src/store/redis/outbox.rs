//! [`Outbox`] in Redis: a stream for each bucket, and a cursor for each link.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use redis::AsyncCommands as _;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, Record, Value};

use super::buckets::{of_each_bucket, of_these};
use super::{Redis, corrupt};
use crate::replica::digest::record_id;
use crate::replica::{InvalidMark, Mark};
use crate::store::{BATCH_BYTES_MAX, BATCH_MAX, Backlog, Cursors, Outbox, StoreError, Waiting};

/// The answer of outbox.lua: incarnation, last sequence, whether there are more, and of each op
/// sequence, id, mark, value, the version before, and the span that made it.
type Rows = (u64, u64, u8, Vec<Row>);
type Row = (u64, Vec<u8>, String, Vec<u8>, String, Vec<u8>);

/// An op of the outbox; an error if no unitring wrote it.
fn op(
    sequence: u64,
    (id, mark, over): (&str, &str, &str),
    value: Vec<u8>,
    trace: &[u8],
) -> Result<Op, InvalidMark> {
    let over = match over {
        "" => None,
        over => Some(over.parse::<Mark>()?.version),
    };
    let mark: Mark = mark.parse()?;
    let record = Record {
        id: record_id(id)?,
        value: Some(Value(value)).filter(|_| !mark.is_deleted),
        version: mark.version,
        expires_ms: mark.expires_ms,
    };
    Ok(Op {
        sequence,
        record,
        over,
        trace: str::from_utf8(trace)
            .ok()
            .and_then(|text| text.parse().ok()),
    })
}

#[async_trait]
impl Outbox for Redis {
    async fn outboxes(&self, asked: &[(u8, Position)]) -> Result<Vec<Waiting>, StoreError> {
        let connection = self.connection().await?;
        let bytes = BATCH_BYTES_MAX / asked.len().max(1);
        of_these(asked.to_vec(), |(bucket, after)| {
            let mut connection = connection.clone();
            async move {
                let (incarnation, last, more, rows): Rows = self
                    .scripts
                    .outbox
                    .key(self.keys.outbox(bucket))
                    .key(self.keys.meta(bucket))
                    .arg(after.incarnation)
                    .arg(after.sequence)
                    .arg(BATCH_MAX)
                    .arg(bytes)
                    .invoke_async(&mut connection)
                    .await?;
                let mut ops = Vec::with_capacity(rows.len());
                let mut passed = BTreeSet::new();
                for (sequence, id, mark, value, over, trace) in rows {
                    let id = String::from_utf8_lossy(&id);
                    let read = op(sequence, (&id, &mark, &over), value, &trace);
                    match self.spoiled.keep(&id, read) {
                        Some(op) => ops.push(op),
                        None => drop(passed.insert(sequence)),
                    }
                }
                Ok(Waiting {
                    incarnation,
                    ops,
                    passed,
                    last,
                    more: more == 1,
                })
            }
        })
        .await
    }

    async fn cursors(&self) -> Result<Cursors, StoreError> {
        let connection = self.connection().await?;
        let stored = of_each_bucket(|bucket| {
            let (mut connection, key) = (connection.clone(), self.keys.cursors(bucket));
            async move {
                let cursors: BTreeMap<String, String> = connection.hgetall(key).await?;
                Ok((bucket, cursors))
            }
        });
        let mut cursors = Cursors::new();
        for (bucket, stored) in stored.await? {
            for (unit, cursor) in stored {
                let unit: UnitId = unit.parse().map_err(|_| corrupt(&unit))?;
                let cursor = cursor.parse().map_err(|_| corrupt(&cursor))?;
                cursors.entry(unit).or_default().insert(bucket, cursor);
            }
        }
        Ok(cursors)
    }

    async fn confirm(
        &self,
        unit: &UnitId,
        cursors: &[(u8, Position)],
        members: &[UnitId],
    ) -> Result<u64, StoreError> {
        let connection = self.connection().await?;
        let members: Vec<&str> = members.iter().map(UnitId::as_str).collect();
        let members = &members;
        let removed = of_these(cursors.to_vec(), |(bucket, through)| {
            let mut connection = connection.clone();
            async move {
                let removed: u64 = self
                    .scripts
                    .confirm
                    .key(self.keys.cursors(bucket))
                    .key(self.keys.outbox(bucket))
                    .key(self.keys.meta(bucket))
                    .arg(unit.as_str())
                    .arg(through.incarnation)
                    .arg(through.sequence)
                    .arg(members)
                    .invoke_async(&mut connection)
                    .await?;
                Ok(removed)
            }
        });
        Ok(removed.await?.iter().sum())
    }

    async fn shorten(&self, keep: &[(u8, u64)]) -> Result<u64, StoreError> {
        let connection = self.connection().await?;
        let removed = of_these(keep.to_vec(), |(bucket, keep)| {
            let (mut connection, outbox) = (connection.clone(), self.keys.outbox(bucket));
            async move {
                let mut trim = redis::cmd("XTRIM");
                trim.arg(outbox).arg("MAXLEN").arg(keep);
                let removed: u64 = trim.query_async(&mut connection).await?;
                Ok(removed)
            }
        });
        Ok(removed.await?.iter().sum())
    }

    async fn waiting(&self) -> Result<BTreeMap<u8, Backlog>, StoreError> {
        let connection = self.connection().await?;
        let backlogs = of_each_bucket(|bucket| {
            let (mut connection, outbox) = (connection.clone(), self.keys.outbox(bucket));
            async move {
                let ops: u64 = connection.xlen(&outbox).await?;
                if ops == 0 {
                    return Ok((bucket, Backlog::default()));
                }
                // Redis' own estimate, from a sample of the stream's nodes.
                let mut usage = redis::cmd("MEMORY");
                usage.arg("USAGE").arg(&outbox);
                let bytes: Option<u64> = usage.query_async(&mut connection).await?;
                let bytes = bytes.unwrap_or(0);
                Ok((bucket, Backlog { ops, bytes }))
            }
        });
        let backlogs = backlogs.await?.into_iter();
        Ok(backlogs.filter(|(_, backlog)| backlog.ops > 0).collect())
    }
}
