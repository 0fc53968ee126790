//! [`FixedStore`] in the file.

use async_trait::async_trait;
use redb::{Durability, ReadTransaction, ReadableTable as _};
use unitring_protocol::ids::{DatasetName, RecordKey};

use super::tables::{FIXED, FIXED_STATE};
use super::{Embedded, away};
use crate::fixed::FixedData;
use crate::store::{Fixed, FixedStore, StoreError};

/// Version and checksum of the fixed data, if there are any.
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
impl FixedStore for Embedded {
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
}
