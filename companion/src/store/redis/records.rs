//! [`Records`] in Redis. Every change is one script.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use redis::{AsyncCommands as _, Cmd, pipe};
use unitring_protocol::digest::{BUCKETS, BucketState, Digest};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Record, RecordId};

use super::Redis;
use crate::store::digest::{Mark, bucket_of, record_id};
use crate::store::{
    Applied, BATCH_BYTES_MAX, BATCH_MAX, Batch, CHANGES_MAX, Change, Condition, Outcome, Page,
    Records, StoreError, Written,
};

/// What write.lua answers where the condition does not hold.
const REFUSED: u8 = 2;

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

fn state(
    own: &UnitId,
    bucket: u8,
    meta: &Meta,
    applied: BTreeMap<String, u64>,
) -> Result<Option<BucketState>, StoreError> {
    let Some(digest) = meta.get("digest") else {
        return Ok(None);
    };
    let corrupt = |what: &str| StoreError::Corrupt(format!("{what} of bucket {bucket}"));
    let digest = u64::from_str_radix(digest, 16).map_err(|_| corrupt("digest"))?;
    let sequence = meta.get("sequence").map_or(Ok(0), |text| text.parse());
    let sequence = sequence.map_err(|_| corrupt("sequence"))?;
    let mut positions = BTreeMap::from([(own.clone(), sequence)]);
    for (unit, position) in applied {
        positions.insert(unit.parse().map_err(|_| corrupt("positions"))?, position);
    }
    positions.retain(|_, position| *position > 0);
    Ok(Some(BucketState {
        bucket,
        digest: Digest(digest),
        positions,
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
        let call = self.write_call(id, change, condition, now_ms);
        let done = self.written(bucket_of(id), call).await?;
        let done: Option<(String, u8)> = done;
        let Some((version, created)) = done else {
            return Ok(Outcome::Nothing);
        };
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

    async fn apply(&self, bucket: u8, batch: &Batch, now_ms: u64) -> Result<Applied, StoreError> {
        let mut connection = self.connection().await?;
        let (origin, changes): (&str, Vec<(u64, &Record)>) = match batch {
            Batch::Ops { origin, ops } => {
                let ops = ops.iter().map(|op| (op.sequence, &op.record));
                (origin.as_str(), ops.collect())
            }
            Batch::Records { records, .. } => {
                ("", records.iter().map(|record| (0, record)).collect())
            }
        };
        let mut call = self.scripts.apply.prepare_invoke();
        call.key(self.keys.versions(bucket))
            .key(self.keys.meta(bucket))
            .key(self.keys.applied(bucket))
            .key(self.keys.expiring(bucket))
            .key(self.keys.changes(bucket));
        call.arg(self.unit.as_str())
            .arg(origin)
            .arg(changes.len())
            .arg(now_ms)
            .arg(CHANGES_MAX);
        for (sequence, record) in changes {
            let value = record.value.as_ref().map(|value| value.0.as_slice());
            call.key(self.keys.record(&record.id));
            call.arg(record.id.to_string())
                .arg(Mark::of(record).to_string())
                .arg(value.unwrap_or_default())
                .arg(sequence);
        }
        if let Batch::Records { positions, .. } = batch {
            for (unit, position) in positions {
                call.arg(unit.as_str()).arg(*position);
            }
        }
        let (changed, gaps): (u64, u64) = call.invoke_async(&mut connection).await?;
        Ok(Applied { changed, gaps })
    }

    async fn outbox(&self, bucket: u8, after: u64) -> Result<Vec<Op>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<(u64, String, String, Vec<u8>)> = self
            .scripts
            .outbox
            .key(self.keys.outbox(bucket))
            .arg(after.saturating_add(1))
            .arg(BATCH_MAX)
            .arg(BATCH_BYTES_MAX)
            .invoke_async(&mut connection)
            .await?;
        let mut ops = Vec::with_capacity(rows.len());
        for (sequence, id, mark, value) in rows {
            if let Some(record) = mark.parse::<Mark>()?.record(record_id(&id)?, Some(value)) {
                ops.push(Op { sequence, record });
            }
        }
        Ok(ops)
    }

    async fn trim(&self, bucket: u8, through: u64) -> Result<u64, StoreError> {
        let mut connection = self.connection().await?;
        let trimmed = redis::cmd("XTRIM")
            .arg(self.keys.outbox(bucket))
            .arg("MINID")
            .arg(format!("{}-0", through.saturating_add(1)))
            .query_async(&mut connection)
            .await?;
        Ok(trimmed)
    }

    async fn waiting(&self) -> Result<BTreeMap<u8, u64>, StoreError> {
        let connection = self.connection().await?;
        let lengths = of_each_bucket(|bucket| {
            let (mut connection, outbox) = (connection.clone(), self.keys.outbox(bucket));
            async move {
                let waiting: u64 = connection.xlen(outbox).await?;
                Ok((bucket, waiting))
            }
        });
        let lengths = lengths.await?.into_iter();
        Ok(lengths.filter(|(_, waiting)| *waiting > 0).collect())
    }

    async fn states(&self) -> Result<Vec<BucketState>, StoreError> {
        let connection = self.connection().await?;
        let states = of_each_bucket(|bucket| {
            let mut connection = connection.clone();
            async move {
                let (meta, applied): (Meta, BTreeMap<String, u64>) = self
                    .scripts
                    .state
                    .key(self.keys.meta(bucket))
                    .key(self.keys.applied(bucket))
                    .invoke_async(&mut connection)
                    .await?;
                state(&self.unit, bucket, &meta, applied)
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
            let (next, pairs): (String, Vec<(String, String)>) = redis::cmd("HSCAN")
                .arg(self.keys.versions(bucket))
                .arg(if cursor.is_empty() { "0" } else { &cursor })
                .arg("COUNT")
                .arg(BATCH_MAX)
                .query_async(&mut connection)
                .await?;
            page.more = (next != "0").then_some(next);
            let ids: Result<_, _> = pairs.iter().map(|(id, _)| record_id(id)).collect();
            page.listed = ids?;
        }
        let count = self.fitting(&page.listed).await?;
        let rest = page.listed.split_off(count.min(page.listed.len()));
        let ids = std::mem::replace(&mut page.listed, rest);
        let records = self.read_all(bucket, ids).await?;
        Ok((records, page))
    }
}

impl Redis {
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
            self.keys.expiring(bucket),
            self.keys.changes(bucket),
        ];
        let (value, expires_ms) = match change {
            Change::Put { value, expires_ms } => (Some(value), expires_ms),
            Change::Delete => (None, None),
        };
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.scripts.write.get_hash())
            .arg(keys.len())
            .arg(&keys)
            .arg(id.to_string())
            .arg(self.unit.as_str())
            .arg(now_ms)
            .arg(u8::from(value.is_some()))
            .arg(value.unwrap_or_default())
            .arg(u8::from(self.has_peers));
        match condition {
            Condition::Any => call.arg(""),
            Condition::Present => call.arg("*"),
            Condition::Absent => call.arg("-"),
            Condition::Version(version) => call.arg(version.to_string()),
        };
        match expires_ms {
            Some(expires_ms) => call.arg(expires_ms),
            None => call.arg(""),
        };
        call.arg(CHANGES_MAX);
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
        let answers: Vec<Option<Vec<u8>>> = call.invoke_async(&mut connection).await?;
        let mut records = Vec::with_capacity(ids.len());
        for (id, pair) in ids.into_iter().zip(answers.chunks_exact(2)) {
            let [Some(mark), value] = pair else { continue };
            let mark: Mark = String::from_utf8_lossy(mark).parse()?;
            records.extend(mark.record(id, value.clone()));
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
