//! [`Replica`] in Redis. Every batch is one script.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::{RedisResult, Script, ScriptInvocation, pipe};
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Position, Record, RecordId};

use super::buckets::{of_each_bucket, of_these};
use super::connection::Connection;
use super::records::{Scanned, record_of};
use super::{Redis, corrupt, is_full};
use crate::replica::bounds::AHEAD_MS_MAX;
use crate::replica::change::{OpStep, op_steps};
use crate::replica::digest::record_id;
use crate::replica::mark::LOST_MS;
use crate::replica::{Mark, epoch};
use crate::store::{
    Applied, BATCH_BYTES_MAX, BATCH_MAX, Batch, CHANGES_MAX, CONFLICT_VALUE_MAX, CONFLICTS_MAX,
    Conflict, Held, Page, Recounted, Replica, StoreError,
};

/// The fields of a bucket's meta.
type Meta = BTreeMap<String, String>;

/// The answer of apply.lua.
type Counts = (u64, u64, u64, u64, u64);

fn counted((changed, gaps, conflicts, refused, ahead): Counts) -> Applied {
    Applied {
        changed,
        gaps,
        conflicts,
        refused,
        ahead,
    }
}

/// The answer of state.lua.
type Stated = (Meta, BTreeMap<String, String>, Vec<(String, f64)>);

fn held(
    own: &UnitId,
    bucket: u8,
    (meta, applied, gone): &Stated,
    now_ms: u64,
) -> Result<Option<Held>, StoreError> {
    if meta.is_empty() {
        return Ok(None);
    }
    let wrong = |what: &str| StoreError::Corrupt(format!("{what} of bucket {bucket}"));
    let number = |name: &str| {
        let text = meta.get(name).map_or("0", String::as_str);
        text.parse::<u64>().map_err(|_| wrong(name))
    };
    let mut digest = 0;
    for (field, text) in meta {
        let counts = match field.strip_prefix("digest") {
            Some("") => true,
            Some(of) => {
                let of = of.strip_prefix(':').and_then(|of| of.parse::<u64>().ok());
                of.ok_or_else(|| wrong(field))? > epoch(now_ms)
            }
            None => continue,
        };
        let part = u64::from_str_radix(text, 16).map_err(|_| wrong("digest"))?;
        digest ^= if counts { part } else { 0 };
    }
    let mut positions = BTreeMap::from([(
        own.clone(),
        Position {
            incarnation: number("incarnation")?,
            sequence: number("sequence")?,
        },
    )]);
    for (unit, position) in applied {
        let unit = unit.parse().map_err(|_| wrong("a unit"))?;
        let position: Position = position.parse().map_err(|_| wrong("a position"))?;
        let known: &mut Position = positions.entry(unit).or_default();
        *known = position.max(*known);
    }
    positions.retain(|_, position| position.sequence > 0);
    let clock = Clock {
        ms: number("ms")?,
        counter: u32::try_from(number("counter")?).unwrap_or(u32::MAX),
    };
    let gone_ms = gone.first().map(|(_, ms)| {
        // Dates are whole numbers far below 2^53.
        format!("{ms:.0}").parse().unwrap_or(0)
    });
    Ok(Some(Held {
        state: BucketState {
            bucket,
            digest: Digest(digest),
            positions,
        },
        clock,
        gone_ms,
    }))
}

#[async_trait]
impl Replica for Redis {
    async fn apply(&self, parts: &[(u8, Batch)], now_ms: u64) -> Result<Vec<Applied>, StoreError> {
        let connection = self.connection().await?;
        // Batches of one bucket run one after the other, different buckets concurrently.
        let mut of_bucket: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (place, (bucket, _)) in parts.iter().enumerate() {
            of_bucket.entry(*bucket).or_default().push(place);
        }
        let applied = of_these(of_bucket, |(bucket, places)| {
            let mut connection = connection.clone();
            async move {
                let mut done = Vec::with_capacity(places.len());
                for place in places {
                    let Some((_, batch)) = parts.get(place) else {
                        continue;
                    };
                    let applied = self.apply_one(&mut connection, bucket, batch, now_ms).await;
                    // Nothing of it is applied and no position moves: the bucket is behind, and is repaired once its
                    // key is put right.
                    let applied = self.unless_foreign(bucket, applied).await?;
                    done.push((place, applied.unwrap_or_default()));
                }
                Ok(done)
            }
        });
        let mut applied: Vec<(usize, Applied)> = applied.await?.into_iter().flatten().collect();
        applied.sort_unstable_by_key(|(place, _)| *place);
        Ok(applied.into_iter().map(|(_, applied)| applied).collect())
    }

    async fn states(&self, now_ms: u64) -> Result<Vec<Held>, StoreError> {
        let connection = self.connection().await?;
        let states = of_each_bucket(|bucket| {
            let mut connection = connection.clone();
            async move {
                let stated = self
                    .scripts
                    .state
                    .key(self.keys.meta(bucket))
                    .key(self.keys.applied(bucket))
                    .key(self.keys.gone(bucket))
                    .invoke_async(&mut connection)
                    .await;
                let stated = self.unless_foreign(bucket, stated.map_err(StoreError::from));
                let stated: Option<Stated> = stated.await?;
                let Some(stated) = stated else {
                    return Ok(None);
                };
                // A corrupt bucket does not hide the others.
                let held = held(&self.unit, bucket, &stated, now_ms);
                Ok(self
                    .spoiled
                    .keep(&format!("bucket {bucket}"), held)
                    .flatten())
            }
        });
        Ok(states.await?.into_iter().flatten().collect())
    }

    async fn page(&self, bucket: u8, mut page: Page) -> Result<(Vec<Record>, Page), StoreError> {
        let mut connection = self.connection().await?;
        if page.listed.is_empty() {
            let Some(cursor) = page.more.take() else {
                return Ok((Vec::new(), page));
            };
            let scanned = redis::cmd("HSCAN")
                .arg(self.keys.versions(bucket))
                .arg(if cursor.is_empty() { "0" } else { &cursor })
                .arg("COUNT")
                .arg(BATCH_MAX)
                .query_async(&mut connection)
                .await;
            let scanned = self.unless_foreign(bucket, scanned.map_err(StoreError::from));
            let scanned: Option<Scanned> = scanned.await?;
            let (next, pairs) = scanned.unwrap_or_else(|| ("0".to_owned(), Vec::new()));
            page.more = (next != "0").then_some(next);
            let ids = pairs.iter().filter_map(|(id, _)| {
                self.spoiled
                    .keep(&String::from_utf8_lossy(id), record_of(id))
            });
            page.listed = ids.collect();
        }
        let count = self.fitting(&page.listed).await?;
        let rest = page.listed.split_off(count.min(page.listed.len()));
        let ids = std::mem::replace(&mut page.listed, rest);
        let records = self.read_all(bucket, ids).await?;
        Ok((records, page))
    }

    async fn conflicts(&self, limit: usize) -> Result<Vec<Conflict>, StoreError> {
        let connection = self.connection().await?;
        let conflicts = of_each_bucket(|bucket| {
            let (mut connection, key) = (connection.clone(), self.keys.conflicts(bucket));
            async move {
                let rows = redis::cmd("XREVRANGE")
                    .arg(&key)
                    .arg("+")
                    .arg("-")
                    .arg("COUNT")
                    .arg(limit)
                    .query_async(&mut connection)
                    .await;
                let rows = self.unless_foreign(bucket, rows.map_err(StoreError::from));
                let rows: Option<Vec<(String, Vec<Vec<u8>>)>> = rows.await?;
                let rows = rows.unwrap_or_default();
                let rows = rows.iter().map(|(_, fields)| conflict(fields));
                let read = rows.filter_map(|row| self.spoiled.keep("a conflict", row));
                Ok(read.collect::<Vec<_>>())
            }
        });
        let mut conflicts: Vec<Conflict> = conflicts.await?.into_iter().flatten().collect();
        conflicts.sort_by_key(|conflict| std::cmp::Reverse(conflict.at_ms));
        conflicts.truncate(limit);
        Ok(conflicts)
    }

    async fn recount(&self, bucket: u8, now_ms: u64) -> Result<Recounted, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.scripts.recount.key(self.keys.versions(bucket));
        call.key(self.keys.meta(bucket)).key(self.keys.gone(bucket));
        call.arg(self.keys.records(bucket))
            .arg(now_ms.saturating_add(LOST_MS));
        let recounted = call.invoke_async(&mut connection).await;
        let recounted = recounted.map_err(StoreError::from);
        let recounted = self.named(self.keys.of_a_bucket(bucket), recounted).await;
        let recounted: Result<(bool, u64), StoreError> = recounted;
        match recounted {
            Ok((was_wrong, lost)) => Ok(Recounted {
                was_wrong,
                lost,
                unread: None,
            }),
            Err(StoreError::Corrupt(why)) => Ok(Recounted {
                unread: Some(why),
                ..Recounted::default()
            }),
            Err(error) => Err(error),
        }
    }

    async fn reset_clocks(&self, now_ms: u64) -> Result<Vec<u8>, StoreError> {
        let connection = self.connection().await?;
        let reset = of_each_bucket(|bucket| {
            let mut connection = connection.clone();
            async move {
                let mut call = self.scripts.reset.key(self.keys.meta(bucket));
                call.key(self.keys.applied(bucket))
                    .key(self.keys.fence(bucket))
                    .key(self.keys.outbox(bucket));
                call.arg(now_ms).arg(AHEAD_MS_MAX);
                let was = call.invoke_async(&mut connection).await;
                let was = self.unless_foreign(bucket, was.map_err(StoreError::from));
                let was: Option<bool> = was.await?;
                Ok(was.unwrap_or(false).then_some(bucket))
            }
        });
        Ok(reset.await?.into_iter().flatten().collect())
    }
}

/// Parses a row of the log of conflicts.
fn conflict(fields: &[Vec<u8>]) -> Result<Conflict, StoreError> {
    let [_, at, _, id, _, lost, _, kept, _, value, _, has] = fields else {
        return Err(corrupt("conflict"));
    };
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let value = (has.as_slice() == b"1").then(|| unitring_protocol::record::Value(value.clone()));
    Ok(Conflict {
        at_ms: text(at).parse().map_err(|_| corrupt("conflict"))?,
        record: record_id(&text(id))?,
        lost: text(lost),
        kept: text(kept),
        value,
    })
}

impl Redis {
    /// Applies a batch. If Redis is full, changes that free memory go first; then there may be room
    /// for the rest, which waits if there is none.
    async fn apply_one(
        &self,
        connection: &mut Connection,
        bucket: u8,
        batch: &Batch,
        now_ms: u64,
    ) -> Result<Applied, StoreError> {
        let scripts = &self.scripts;
        let call = self.apply_call(&scripts.apply, bucket, batch, now_ms);
        match call.invoke_async::<Counts>(connection).await {
            Err(error) if is_full(&error) => {
                let freeing = self.apply_call(&scripts.apply_freeing, bucket, batch, now_ms);
                let freed = counted(freeing.invoke_async(connection).await?);
                let rest = call.invoke_async(connection).await?;
                let mut applied = counted(rest);
                applied.changed += freed.changed;
                Ok(applied)
            }
            answer => Ok(counted(answer?)),
        }
    }

    /// The call that applies a batch.
    fn apply_call<'a>(
        &self,
        script: &'a Script,
        bucket: u8,
        batch: &Batch,
        now_ms: u64,
    ) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(self.keys.versions(bucket))
            .key(self.keys.meta(bucket))
            .key(self.keys.applied(bucket))
            .key(self.keys.gone(bucket))
            .key(self.keys.changes(bucket))
            .key(self.keys.conflicts(bucket))
            .key(self.keys.fence(bucket));
        let (origin, incarnation, count) = match batch {
            Batch::Ops {
                origin,
                incarnation,
                ops,
                passed,
            } => (origin.as_str(), *incarnation, ops.len() + passed.len()),
            Batch::Records { records, .. } => ("", 0, records.len()),
        };
        call.arg(self.unit.as_str())
            .arg(origin)
            .arg(incarnation)
            .arg(now_ms)
            .arg(CHANGES_MAX)
            .arg(CONFLICTS_MAX)
            .arg(CONFLICT_VALUE_MAX)
            .arg(count);
        let change =
            |call: &mut ScriptInvocation<'_>, record: &Record, sequence: u64, over: &str| {
                let value = record.value.as_ref().map(|value| value.0.as_slice());
                call.key(self.keys.record(&record.id));
                call.arg(record.id.to_string())
                    .arg(Mark::of(record).to_string())
                    .arg(value.unwrap_or_default())
                    .arg(u8::from(value.is_some()))
                    .arg(sequence)
                    .arg(over);
            };
        match batch {
            Batch::Ops { ops, passed, .. } => {
                call.arg(0).arg(0).arg(0).arg(0).arg(AHEAD_MS_MAX);
                for step in op_steps(ops, passed) {
                    match step {
                        OpStep::Op(op) => {
                            let over = op.over.as_ref().map(ToString::to_string);
                            let over = over.unwrap_or_default();
                            change(&mut call, &op.record, op.sequence, &over);
                        }
                        OpStep::Passed(sequence) => {
                            // Each change needs a key; this one is not used.
                            call.key(self.keys.meta(bucket));
                            call.arg("").arg("").arg("").arg(0).arg(sequence).arg("");
                        }
                    }
                }
            }
            Batch::Records {
                records,
                positions,
                clock,
                is_last,
            } => {
                call.arg(clock.ms)
                    .arg(clock.counter)
                    .arg(u8::from(*is_last))
                    .arg(positions.len())
                    .arg(AHEAD_MS_MAX);
                for (unit, position) in positions {
                    call.arg(unit.as_str()).arg(position.to_string());
                }
                for record in records {
                    change(&mut call, record, 0, "");
                }
            }
        }
        call
    }

    /// How many of these records may be read at once; at least one.
    async fn fitting(&self, ids: &[RecordId]) -> Result<usize, StoreError> {
        let mut connection = self.connection().await?;
        let mut lengths = pipe();
        for id in ids.iter().take(BATCH_MAX) {
            lengths.strlen(self.keys.record(id));
        }
        if ids.is_empty() {
            return Ok(0);
        }
        // Another type than a string has no length here, and no value either.
        lengths.ignore_errors();
        let lengths: Vec<RedisResult<usize>> = lengths.query_async(&mut connection).await?;
        let mut bytes = 0;
        let fitting = lengths.iter().take_while(|length| {
            bytes += length.as_ref().map_or(0, |length| *length);
            bytes <= BATCH_BYTES_MAX
        });
        Ok(fitting.count().max(1))
    }
}
