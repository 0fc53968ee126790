//! [`Records`] in Redis. Every change is one script.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use redis::AsyncCommands as _;
use redis::{Cmd, Script, ScriptInvocation, pipe};
use unitring_protocol::digest::{BUCKETS, BucketState, Digest};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Position, Record, RecordId};

use super::connection::Connection;
use super::{Redis, corrupt, is_full};
use crate::replica::bounds::{AHEAD_MS_MAX, fault_of_change};
use crate::replica::change::{OpStep, op_steps};
use crate::replica::digest::{bucket_of, record_id};
use crate::replica::{Mark, epoch};
use crate::store::{
    Applied, BATCH_BYTES_MAX, BATCH_MAX, Backlog, Batch, CHANGES_MAX, COLLECTED_MAX,
    CONFLICT_VALUE_MAX, CONFLICTS_MAX, Change, Condition, Conflict, Cursors, Held, Outcome, Page,
    Records, StoreError, Waiting, Written,
};

/// What write.lua answers where the condition does not hold.
const REFUSED: u8 = 2;
/// And where the bucket's clock is of the future.
const AHEAD: u8 = 3;

/// The fields of a bucket's meta.
type Meta = BTreeMap<String, String>;

/// Buckets that are asked at a time.
const ASKED_MAX: usize = 32;

/// Asks about every bucket on its own: in a Redis Cluster each is somewhere else.
pub(super) async fn of_each_bucket<T, F: Future<Output = Result<T, StoreError>>>(
    ask: impl Fn(u8) -> F,
) -> Result<Vec<T>, StoreError> {
    let buckets = (0..BUCKETS).filter_map(|bucket| u8::try_from(bucket).ok());
    let answers = futures::stream::iter(buckets.map(ask)).buffered(ASKED_MAX);
    answers.try_collect().await
}

/// Some buckets at a time, in any order but that of one bucket's own; the answers are in order.
pub(super) async fn of_these<A, T, F: Future<Output = Result<T, StoreError>>>(
    items: impl IntoIterator<Item = A>,
    ask: impl Fn(A) -> F,
) -> Result<Vec<T>, StoreError> {
    let answers = futures::stream::iter(items.into_iter().map(ask)).buffered(ASKED_MAX);
    answers.try_collect().await
}

/// What apply.lua answers.
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

/// What state.lua answers.
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
impl Records for Redis {
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
        let call = self.write_call(id, change, condition, now_ms);
        let done = self.written(bucket_of(id), call).await?;
        let done: Option<(String, u8)> = done;
        let Some((version, created)) = done else {
            return Ok(Outcome::Nothing);
        };
        if created == AHEAD {
            let ms = version.parse().map_err(|_| corrupt(&version))?;
            return Err(StoreError::ClockAhead(ms));
        }
        if created == REFUSED {
            let there = (!version.is_empty()).then(|| version.parse::<Mark>());
            return Ok(Outcome::Refused(
                there.transpose()?.map(|mark| mark.version),
            ));
        }
        Ok(Outcome::Done(Written {
            version: version.parse::<Mark>()?.version,
            created: created == 1,
        }))
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let records = self.read_all(bucket_of(id), vec![id.clone()]).await?;
        Ok(records.into_iter().next())
    }

    async fn apply(&self, parts: &[(u8, Batch)], now_ms: u64) -> Result<Vec<Applied>, StoreError> {
        let connection = self.connection().await?;
        // Batches of one bucket one after the other, those of others meanwhile.
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
                    let applied = self
                        .apply_one(&mut connection, bucket, batch, now_ms)
                        .await?;
                    done.push((place, applied));
                }
                Ok(done)
            }
        });
        let mut applied: Vec<(usize, Applied)> = applied.await?.into_iter().flatten().collect();
        applied.sort_unstable_by_key(|(place, _)| *place);
        Ok(applied.into_iter().map(|(_, applied)| applied).collect())
    }

    async fn outboxes(&self, asked: &[(u8, Position)]) -> Result<Vec<Waiting>, StoreError> {
        self.read_outboxes(asked).await
    }

    async fn cursors(&self) -> Result<Cursors, StoreError> {
        self.read_cursors().await
    }

    async fn confirm(
        &self,
        unit: &UnitId,
        cursors: &[(u8, Position)],
        members: &[UnitId],
    ) -> Result<u64, StoreError> {
        self.store_cursors(unit, cursors, members).await
    }

    async fn shorten(&self, keep: &[(u8, u64)]) -> Result<u64, StoreError> {
        self.trim_outboxes(keep).await
    }

    async fn waiting(&self) -> Result<BTreeMap<u8, Backlog>, StoreError> {
        self.count_outboxes().await
    }

    async fn states(&self, now_ms: u64) -> Result<Vec<Held>, StoreError> {
        let connection = self.connection().await?;
        let states = of_each_bucket(|bucket| {
            let mut connection = connection.clone();
            async move {
                let stated: Stated = self
                    .scripts
                    .state
                    .key(self.keys.meta(bucket))
                    .key(self.keys.applied(bucket))
                    .key(self.keys.gone(bucket))
                    .invoke_async(&mut connection)
                    .await?;
                // One that nobody can read says nothing of the others.
                let held = held(&self.unit, bucket, &stated, now_ms);
                Ok(self
                    .spoiled
                    .keep(&format!("bucket {bucket}"), held)
                    .flatten())
            }
        });
        Ok(states.await?.into_iter().flatten().collect())
    }

    async fn collect(
        &self,
        bucket: u8,
        before_ms: u64,
        fence: &BTreeMap<UnitId, Position>,
    ) -> Result<u64, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.sweep_call(bucket);
        call.arg(before_ms).arg(COLLECTED_MAX);
        for (unit, position) in fence {
            call.arg(unit.as_str()).arg(position.to_string());
        }
        Ok(call.invoke_async(&mut connection).await?)
    }

    async fn agree(&self) -> Result<(), StoreError> {
        let Some(agreement) = &self.agreement else {
            return Ok(());
        };
        let mut connection = self.connection.clone();
        let () = connection.set(self.keys.agreement(), &agreement.0).await?;
        Ok(())
    }

    async fn reset_clocks(&self, now_ms: u64) -> Result<Vec<u8>, StoreError> {
        let connection = self.connection().await?;
        let reset = of_each_bucket(|bucket| {
            let mut connection = connection.clone();
            async move {
                let mut call = self.scripts.reset.key(self.keys.meta(bucket));
                call.arg(now_ms).arg(AHEAD_MS_MAX);
                let was: bool = call.invoke_async(&mut connection).await?;
                Ok(was.then_some(bucket))
            }
        });
        Ok(reset.await?.into_iter().flatten().collect())
    }

    async fn recount(&self, bucket: u8) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.scripts.recount.key(self.keys.versions(bucket));
        call.key(self.keys.meta(bucket));
        Ok(call.invoke_async(&mut connection).await?)
    }

    fn spoiled(&self) -> BTreeMap<String, String> {
        self.spoiled.names()
    }

    async fn conflicts(&self, limit: usize) -> Result<Vec<Conflict>, StoreError> {
        let connection = self.connection().await?;
        let conflicts = of_each_bucket(|bucket| {
            let (mut connection, key) = (connection.clone(), self.keys.conflicts(bucket));
            async move {
                let rows: Vec<(String, Vec<Vec<u8>>)> = redis::cmd("XREVRANGE")
                    .arg(&key)
                    .arg("+")
                    .arg("-")
                    .arg("COUNT")
                    .arg(limit)
                    .query_async(&mut connection)
                    .await?;
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

    async fn page(&self, bucket: u8, mut page: Page) -> Result<(Vec<Record>, Page), StoreError> {
        let mut connection = self.connection().await?;
        if page.listed.is_empty() {
            let Some(cursor) = page.more.take() else {
                return Ok((Vec::new(), page));
            };
            let (next, pairs): (String, Vec<(Vec<u8>, Vec<u8>)>) = redis::cmd("HSCAN")
                .arg(self.keys.versions(bucket))
                .arg(if cursor.is_empty() { "0" } else { &cursor })
                .arg("COUNT")
                .arg(BATCH_MAX)
                .query_async(&mut connection)
                .await?;
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
}

/// The record that a field names; a name that is no text is nobody's.
pub(super) fn record_of(field: &[u8]) -> Result<RecordId, StoreError> {
    let text = str::from_utf8(field).map_err(|_| corrupt("record's name"))?;
    Ok(record_id(text)?)
}

/// What a row of the log of conflicts says.
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
    /// Applies a batch. Where Redis is full, what frees memory goes first; then there may be room for the rest,
    /// which waits if there is none.
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
                            // Each change has a key; this one touches none.
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

    /// The beginning of a call of sweep.lua.
    pub(super) fn sweep_call(&self, bucket: u8) -> ScriptInvocation<'_> {
        let mut call = self.scripts.sweep.prepare_invoke();
        call.key(self.keys.versions(bucket))
            .key(self.keys.meta(bucket))
            .key(self.keys.gone(bucket))
            .key(self.keys.fence(bucket));
        call
    }

    /// The command that makes a write: a call of write.lua.
    pub(super) fn write_call(
        &self,
        id: &RecordId,
        change: Change<'_>,
        condition: &Condition,
        now_ms: u64,
    ) -> Cmd {
        let bucket = bucket_of(id);
        let keys = [
            self.keys.record(id),
            self.keys.versions(bucket),
            self.keys.meta(bucket),
            self.keys.outbox(bucket),
            self.keys.gone(bucket),
            self.keys.changes(bucket),
            self.keys.applied(bucket),
        ];
        let (what, value, expires_ms) = match change {
            Change::Put { value, expires_ms } => (1, value, expires_ms),
            Change::Delete => (0, &[][..], None),
            Change::Again => (2, &[][..], None),
        };
        let mut call = redis::cmd("EVALSHA");
        let script = match change {
            Change::Delete => &self.scripts.delete,
            Change::Put { .. } | Change::Again => &self.scripts.write,
        };
        call.arg(script.get_hash())
            .arg(keys.len())
            .arg(&keys)
            .arg(id.to_string())
            .arg(self.unit.as_str())
            .arg(now_ms)
            .arg(what)
            .arg(value)
            .arg(u8::from(self.has_peers));
        match condition {
            Condition::Any => call.arg(""),
            Condition::Present => call.arg("*"),
            Condition::Absent => call.arg("-"),
            Condition::Version(version) => call.arg(version.to_string()),
            // No version is like it: then none is enough.
            Condition::OneOf(versions) if versions.is_empty() => call.arg("?"),
            Condition::OneOf(versions) => {
                let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
                call.arg(versions.join(" "))
            }
        };
        match expires_ms {
            Some(expires_ms) => call.arg(expires_ms),
            None => call.arg(""),
        };
        call.arg(CHANGES_MAX).arg(AHEAD_MS_MAX);
        call
    }

    /// These records of one bucket, without those that are not there.
    async fn read_all(&self, bucket: u8, ids: Vec<RecordId>) -> Result<Vec<Record>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection().await?;
        let mut call = self.scripts.read.prepare_invoke();
        call.key(self.keys.versions(bucket));
        for id in &ids {
            call.key(self.keys.record(id)).arg(id.to_string());
        }
        // To read twice does no harm, and the second goes by a new connection.
        let answers: Vec<Option<Vec<u8>>> = match call.invoke_async(&mut connection).await {
            Err(error) if error.is_io_error() => call.invoke_async(&mut connection).await,
            answer => answer,
        }?;
        let mut records = Vec::with_capacity(ids.len());
        for (id, pair) in ids.into_iter().zip(answers.chunks_exact(2)) {
            let [Some(mark), value] = pair else { continue };
            let mark = String::from_utf8_lossy(mark).parse::<Mark>();
            let mark = self.spoiled.keep(&id.to_string(), mark);
            records.extend(mark.and_then(|mark| mark.record(id, value.clone())));
        }
        Ok(records)
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
        let lengths: Vec<usize> = lengths.query_async(&mut connection).await?;
        let mut bytes = 0;
        let fitting = lengths.iter().take_while(|length| {
            bytes += **length;
            bytes <= BATCH_BYTES_MAX
        });
        Ok(fitting.count().max(1))
    }
}
