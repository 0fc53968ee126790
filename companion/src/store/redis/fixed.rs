//! [`FixedStore`] in Redis.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::AsyncCommands as _;
use unitring_protocol::ids::{DatasetName, RecordKey};

use super::keys::{Keys, Kind};
use super::{Redis, corrupt};
use crate::fixed::FixedData;
use crate::store::{Fixed, FixedStore, StoreError};

#[async_trait]
impl FixedStore for Redis {
    async fn fixed(&self) -> Result<Option<Fixed>, StoreError> {
        let mut connection = self.connection().await?;
        let key = self.keys.fixed_data();
        let fields = connection.hgetall(&key).await.map_err(StoreError::from);
        let fields: BTreeMap<String, String> =
            self.named([(key.clone(), Kind::Hash)], fields).await?;
        let Some(checksum) = fields.get("checksum") else {
            return Ok(None);
        };
        let text = |name: &str| fields.get(name).map_or("", String::as_str);
        let number = |name: &str| text(name).parse().map_err(|_| corrupt(&key));
        let datasets = text("datasets").lines();
        Ok(Some(Fixed {
            version: number("version")?,
            checksum: checksum.clone(),
            count: number("count")?,
            datasets: datasets.map(str::to_owned).collect(),
        }))
    }

    async fn fixed_value(
        &self,
        dataset: &DatasetName,
        key: &RecordKey,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut connection = self.connection().await?;
        let dataset = self.keys.fixed_dataset(dataset.as_str());
        Ok(connection.hget(dataset, key.as_str()).await?)
    }

    async fn fixed_data(&self) -> Result<Option<(Fixed, FixedData)>, StoreError> {
        let mut connection = self.connection().await?;
        let Some(fixed) = self.fixed().await? else {
            return Ok(None);
        };
        let mut data = FixedData::default();
        for dataset in &fixed.datasets {
            let values: BTreeMap<String, String> =
                connection.hgetall(self.keys.fixed_dataset(dataset)).await?;
            data.datasets.insert(dataset.clone(), values);
        }
        Ok(Some((fixed, data)))
    }

    async fn load_fixed(&self, version: u64, data: &FixedData) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        // What cannot be read is replaced.
        let before = match self.fixed().await {
            Err(StoreError::Corrupt(_)) => None,
            before => before?,
        };
        let checksum = data.checksum();
        let is_later = before
            .as_ref()
            .is_none_or(|before| (before.version, &before.checksum) < (version, &checksum));
        if !is_later {
            return Ok(false);
        }
        let before = before.map(|before| before.datasets).unwrap_or_default();
        let load = load_call(data, &self.keys, version, before.iter().map(String::as_str));
        let _: () = load.query_async(&mut connection).await?;
        Ok(true)
    }
}

/// The pipeline that replaces the fixed data: one transaction, so that no reader sees half of a
/// version.
pub(crate) fn load_call<'a>(
    data: &'a FixedData,
    keys: &Keys,
    version: u64,
    before: impl Iterator<Item = &'a str>,
) -> redis::Pipeline {
    let mut load = redis::pipe();
    load.atomic();
    // Also keys that another client made something else: a transaction goes on after a command that fails.
    let new = data.datasets.keys().map(String::as_str);
    for dataset in before.chain(new) {
        load.del(keys.fixed_dataset(dataset)).ignore();
    }
    load.del(keys.fixed_data()).ignore();
    for (dataset, values) in &data.datasets {
        let values: Vec<(&String, &String)> = values.iter().collect();
        load.hset_multiple(keys.fixed_dataset(dataset), &values)
            .ignore();
    }
    let names: Vec<&str> = data.datasets.keys().map(String::as_str).collect();
    let fields = [
        ("version", version.to_string()),
        ("checksum", data.checksum()),
        ("count", data.count().to_string()),
        ("datasets", names.join("\n")),
    ];
    load.hset_multiple(keys.fixed_data(), &fields).ignore();
    load
}
