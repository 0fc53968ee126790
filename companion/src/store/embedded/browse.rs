//! [`Browse`] in the file.

use std::sync::Arc;

use async_trait::async_trait;
use redb::{Durability, ReadTransaction, ReadableTable as _};
use unitring_protocol::ids::{DatasetName, RecordKey};

use super::tables::{CHANGES, EXPIRING, FIXED, FIXED_STATE, HEADS, VERSIONS};
use super::writes::sweep;
use super::{Embedded, away};
use crate::group::fixed::FixedData;
use crate::replica::digest::record_id;
use crate::store::{Browse, CHANGES_MAX, Changes, Fixed, Listed, Mark, StoreError};

/// Version and checksum of the fixed data.
fn fixed_state(transaction: &ReadTransaction) -> Result<Option<(u64, String)>, StoreError> {
    let state = transaction.open_table(FIXED_STATE).map_err(away)?;
    let text = |name: &str| {
        let value = state.get(name).map_err(away)?;
        Ok::<_, StoreError>(value.map(|value| value.value().to_owned()))
    };
    let (Some(version), Some(checksum)) = (text("version")?, text("checksum")?) else {
        return Ok(None);
    };
    let corrupt = |_| StoreError::Corrupt("version of the fixed data".to_owned());
    Ok(Some((version.parse().map_err(corrupt)?, checksum)))
}

#[async_trait]
impl Browse for Embedded {
    async fn list(
        &self,
        bucket: u8,
        (dataset, prefix): (&DatasetName, &str),
        from: &str,
        count: usize,
        now_ms: u64,
    ) -> Result<(Vec<Listed>, Option<String>), StoreError> {
        let prefix = format!("{dataset}/{prefix}");
        let spoiled = Arc::clone(&self.spoiled);
        let from = from.to_owned();
        self.look(move |transaction| {
            let versions = transaction.open_table(VERSIONS).map_err(away)?;
            let first = from.as_str().max(&prefix);
            let mut listed = Vec::new();
            for row in versions.range((bucket, first)..).map_err(away)? {
                let (key, mark) = row.map_err(away)?;
                let (of, id) = key.value();
                if of != bucket || !id.starts_with(&prefix) {
                    break;
                }
                if listed.len() >= count {
                    return Ok((listed, Some(id.to_owned())));
                }
                let read = mark.value().parse::<Mark>();
                let read = read.and_then(|mark| Ok((record_id(id)?, mark)));
                let read = spoiled.keep(id, read);
                let live = read.filter(|(_, mark)| mark.is_live(now_ms));
                listed.extend(live.map(|(id, mark)| Listed { id, mark }));
            }
            Ok((listed, None))
        })
        .await
    }

    async fn heads(&self) -> Result<Vec<u64>, StoreError> {
        self.look(|transaction| {
            let heads = transaction.open_table(HEADS).map_err(away)?;
            let all = 0..=u8::MAX;
            all.map(|bucket| {
                let head = heads.get(bucket).map_err(away)?;
                Ok(head.map_or(0, |head| head.value()))
            })
            .collect()
        })
        .await
    }

    async fn changes(&self, bucket: u8, after: u64) -> Result<Changes, StoreError> {
        let spoiled = Arc::clone(&self.spoiled);
        self.look(move |transaction| {
            let log = transaction.open_table(CHANGES).map_err(away)?;
            let first = after.saturating_add(1);
            let mut changes = Vec::new();
            for row in log
                .range((bucket, first)..=(bucket, u64::MAX))
                .map_err(away)?
            {
                let (key, row) = row.map_err(away)?;
                let (_, number) = key.value();
                let (id, mark) = row.value();
                let read = record_id(id).and_then(|id| Ok((id, mark.parse()?)));
                let read = spoiled.keep(id, read);
                changes.extend(read.map(|(id, mark)| (number, Listed { id, mark })));
                if u64::try_from(changes.len()).unwrap_or(u64::MAX) >= CHANGES_MAX {
                    break;
                }
            }
            Ok(Changes {
                missed: changes.first().is_some_and(|(number, _)| *number > first),
                changes,
            })
        })
        .await
    }

    async fn fixed(&self) -> Result<Option<Fixed>, StoreError> {
        let data = self.fixed_data().await?;
        Ok(data.map(|(fixed, _)| fixed))
    }

    async fn fixed_value(
        &self,
        dataset: &DatasetName,
        key: &RecordKey,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (dataset, key) = (dataset.to_string(), key.to_string());
        self.look(move |transaction| {
            let table = transaction.open_table(FIXED).map_err(away)?;
            let value = table.get((dataset.as_str(), key.as_str())).map_err(away)?;
            Ok(value.map(|value| value.value().as_bytes().to_vec()))
        })
        .await
    }

    async fn fixed_data(&self) -> Result<Option<(Fixed, FixedData)>, StoreError> {
        self.look(|transaction| {
            let Some((version, checksum)) = fixed_state(transaction)? else {
                return Ok(None);
            };
            let table = transaction.open_table(FIXED).map_err(away)?;
            let mut data = FixedData::default();
            for row in table.iter().map_err(away)? {
                let (key, value) = row.map_err(away)?;
                let (dataset, key) = key.value();
                let values = data.datasets.entry(dataset.to_owned()).or_default();
                values.insert(key.to_owned(), value.value().to_owned());
            }
            let fixed = Fixed {
                version,
                checksum,
                count: u64::try_from(data.count()).unwrap_or(u64::MAX),
                datasets: data.datasets.keys().cloned().collect(),
            };
            Ok(Some((fixed, data)))
        })
        .await
    }

    async fn load_fixed(&self, version: u64, data: &FixedData) -> Result<bool, StoreError> {
        let (data, checksum) = (data.clone(), data.checksum());
        let before = self.look(fixed_state).await?;
        if before.is_some_and(|before| before >= (version, checksum.clone())) {
            return Ok(false);
        }
        self.change(Durability::Immediate, move |transaction, _| {
            let mut table = transaction.open_table(FIXED).map_err(away)?;
            table.retain(|_, _| false).map_err(away)?;
            for (dataset, values) in &data.datasets {
                for (key, value) in values {
                    let key = (dataset.as_str(), key.as_str());
                    table.insert(key, value.as_str()).map_err(away)?;
                }
            }
            let mut state = transaction.open_table(FIXED_STATE).map_err(away)?;
            let version = version.to_string();
            state.insert("version", version.as_str()).map_err(away)?;
            state.insert("checksum", checksum.as_str()).map_err(away)?;
            Ok(true)
        })
        .await
    }

    async fn sweep(&self, now_ms: u64) -> Result<u64, StoreError> {
        // Most looks find nothing, and need no commit.
        let is_due = self.look(move |transaction| {
            let expiring = transaction.open_table(EXPIRING).map_err(away)?;
            let first = expiring.first().map_err(away)?;
            Ok(first.is_some_and(|(key, _)| key.value().0 <= now_ms))
        });
        if !is_due.await? {
            return Ok(0);
        }
        self.change(Durability::Immediate, move |transaction, store| {
            sweep(transaction, store, now_ms)
        })
        .await
    }
}
