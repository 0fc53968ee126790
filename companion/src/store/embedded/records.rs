//! [`Records`] in the file: each method is one transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redb::{Durability, ReadableTable as _};
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::record::{Op, Record, RecordId};

use super::tables::{APPLIED, META, OUTBOX, VALUES, VERSIONS};
use super::writes::{Meta, apply, write};
use super::{Embedded, away};
use crate::store::digest::{Mark, bucket_of, record_id};
use crate::store::{
    Applied, BATCH_BYTES_MAX, BATCH_MAX, Batch, Change, Condition, Outcome, Page, Records,
    StoreError,
};

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
