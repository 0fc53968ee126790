//! [`Outbox`] in Redis: a stream for each bucket, and a cursor for each link.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use redis::AsyncCommands as _;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, Record, Value};

use super::buckets::{of_each_bucket, of_these};
use super::{Redis, corrupt};
use crate::replica::bounds::EXACT_MAX;
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

impl Redis {
    /// Names an entry of an outbox that is no op.
    fn foreign_op(&self, bucket: u8, (sequence, id): (u64, &str), why: &InvalidMark) {
        if !id.is_empty() {
            return self.spoiled.note(id, why);
        }
        let name = format!("{} {sequence}", self.keys.outbox(bucket));
        let way_out =
            "an entry of another client, which is passed over and leaves with the ops before it";
        self.spoiled.note_key(&name, &way_out);
    }
}

#[async_trait]
impl Outbox for Redis {
    async fn outboxes(&self, asked: &[(u8, Position)]) -> Result<Vec<Waiting>, StoreError> {
        let connection = self.connection().await?;
        let bytes = BATCH_BYTES_MAX / asked.len().max(1);
        of_these(asked.to_vec(), |(bucket, after)| {
            let mut connection = connection.clone();
            async move {
                let read = self
                    .scripts
                    .outbox
                    .key(self.keys.outbox(bucket))
                    .key(self.keys.meta(bucket))
                    .arg(after.incarnation)
                    .arg(after.sequence)
                    .arg(BATCH_MAX)
                    .arg(bytes)
                    .invoke_async(&mut connection)
                    .await;
                let read = self.unless_foreign(bucket, read.map_err(StoreError::from));
                let read: Option<Rows> = read.await?;
                let Some((incarnation, last, more, rows)) = read else {
                    // Nothing new, as far as anyone can tell.
                    return Ok(Waiting {
                        incarnation: after.incarnation,
                        last: after.sequence,
                        ..Waiting::default()
                    });
                };
                let mut ops = Vec::with_capacity(rows.len());
                let mut passed = BTreeSet::new();
                for (sequence, id, mark, value, over, trace) in rows {
                    let id = String::from_utf8_lossy(&id);
                    match op(sequence, (&id, &mark, &over), value, &trace) {
                        Ok(op) => ops.push(op),
                        Err(why) => {
                            self.foreign_op(bucket, (sequence, &id), &why);
                            // A number that no op can have is not told to anyone.
                            if sequence < EXACT_MAX {
                                passed.insert(sequence);
                            }
                        }
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
                let cursors = connection.hgetall(key).await;
                let cursors = self.unless_foreign(bucket, cursors.map_err(StoreError::from));
                let cursors: Option<BTreeMap<String, String>> = cursors.await?;
                Ok((bucket, cursors.unwrap_or_default()))
            }
        });
        let mut cursors = Cursors::new();
        for (bucket, stored) in stored.await? {
            for (unit, cursor) in stored {
                let name = format!("{} {unit}", self.keys.cursors(bucket));
                let read = unit.parse::<UnitId>().map_err(|_| corrupt(&unit));
                let read = read.and_then(|unit| {
                    let cursor = cursor.parse().map_err(|_| corrupt(&cursor))?;
                    Ok((unit, cursor))
                });
                // Its ops are sent again, and then the cursor is stored again.
                let Some((unit, cursor)) = self.spoiled.keep(&name, read) else {
                    continue;
                };
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
                let removed = self
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
                    .await;
                let removed = removed.map_err(StoreError::from);
                let removed: Option<u64> = self.unless_foreign(bucket, removed).await?;
                Ok(removed.unwrap_or(0))
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
                let removed = trim.query_async(&mut connection).await;
                let removed = removed.map_err(StoreError::from);
                let removed: Option<u64> = self.unless_foreign(bucket, removed).await?;
                Ok(removed.unwrap_or(0))
            }
        });
        Ok(removed.await?.iter().sum())
    }

    async fn waiting(&self) -> Result<BTreeMap<u8, Backlog>, StoreError> {
        let connection = self.connection().await?;
        let backlogs = of_each_bucket(|bucket| {
            let (mut connection, outbox) = (connection.clone(), self.keys.outbox(bucket));
            async move {
                let ops = connection.xlen(&outbox).await;
                let ops = self.unless_foreign(bucket, ops.map_err(StoreError::from));
                let ops: u64 = ops.await?.unwrap_or(0);
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
