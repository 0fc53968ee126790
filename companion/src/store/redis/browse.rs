//! [`Browse`] in Redis.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::AsyncCommands as _;
use unitring_protocol::ids::{DatasetName, RecordKey};

use super::records::{of_each_bucket, record_of};
use super::{Redis, corrupt};
use crate::group::fixed::FixedData;
use crate::store::{Browse, CHANGES_MAX, Changes, Fixed, Listed, SWEPT_MAX, StoreError};

/// A text that a glob pattern takes as it is.
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

#[async_trait]
impl Browse for Redis {
    async fn list(
        &self,
        bucket: u8,
        (dataset, prefix): (&DatasetName, &str),
        from: &str,
        count: usize,
        now_ms: u64,
    ) -> Result<(Vec<Listed>, Option<String>), StoreError> {
        let mut connection = self.connection().await?;
        let (next, pairs): (String, Vec<(Vec<u8>, Vec<u8>)>) = redis::cmd("HSCAN")
            .arg(self.keys.versions(bucket))
            .arg(if from.is_empty() { "0" } else { from })
            .arg("MATCH")
            .arg(format!(
                "{}/{}*",
                literally(dataset.as_str()),
                literally(prefix)
            ))
            .arg("COUNT")
            .arg(count)
            .query_async(&mut connection)
            .await?;
        let mut listed = Vec::with_capacity(pairs.len());
        for (id, mark) in pairs {
            listed.extend(self.listed(&id, &mark));
        }
        listed.retain(|listed| listed.mark.is_live(now_ms));
        Ok((listed, (next != "0").then_some(next)))
    }

    async fn heads(&self) -> Result<Vec<u64>, StoreError> {
        let connection = self.connection().await?;
        let heads = of_each_bucket(|bucket| {
            let (mut connection, meta) = (connection.clone(), self.keys.meta(bucket));
            async move {
                let head: Option<u64> = connection.hget(meta, "changes").await?;
                Ok(head.unwrap_or(0))
            }
        });
        heads.await
    }

    async fn changes(&self, bucket: u8, after: u64) -> Result<Changes, StoreError> {
        let mut connection = self.connection().await?;
        let from = format!("({after}-0");
        let rows: Vec<(String, Vec<Vec<u8>>)> = connection
            .xrange_count(self.keys.changes(bucket), from, "+", CHANGES_MAX)
            .await?;
        let mut changes = Vec::with_capacity(rows.len());
        for (entry, fields) in &rows {
            let number = entry
                .strip_suffix("-0")
                .and_then(|number| number.parse().ok());
            let (Some(number), [_, id, _, mark]) = (number, fields.as_slice()) else {
                return Err(corrupt(entry));
            };
            changes.extend(self.listed(id, mark).map(|listed| (number, listed)));
        }
        let first = changes.first().map(|(number, _): &(u64, Listed)| *number);
        Ok(Changes {
            missed: first.is_some_and(|first| first > after.saturating_add(1)),
            changes,
        })
    }

    async fn fixed(&self) -> Result<Option<Fixed>, StoreError> {
        let mut connection = self.connection().await?;
        let key = self.keys.fixed_data();
        let fields: BTreeMap<String, String> = connection.hgetall(&key).await?;
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
        let before = self.fixed().await?;
        let checksum = data.checksum();
        let is_later = before
            .as_ref()
            .is_none_or(|before| (before.version, &before.checksum) < (version, &checksum));
        if !is_later {
            return Ok(false);
        }
        let before = before.map(|before| before.datasets).unwrap_or_default();
        let load = data.load(&self.keys, version, before.iter().map(String::as_str));
        let _: () = load.query_async(&mut connection).await?;
        Ok(true)
    }

    /// Values go by themselves, by Redis' own expiry.
    async fn sweep(&self, now_ms: u64) -> Result<u64, StoreError> {
        if self.has_peers {
            return Ok(0);
        }
        let connection = self.connection().await?;
        let swept = of_each_bucket(|bucket| {
            let mut connection = connection.clone();
            async move {
                let mut call = self.sweep_call(bucket);
                call.arg(now_ms).arg(SWEPT_MAX);
                let swept: u64 = call.invoke_async(&mut connection).await?;
                Ok(swept)
            }
        });
        Ok(swept.await?.iter().sum())
    }
}

impl Redis {
    /// What a row says; `None` if no unitring wrote it.
    fn listed(&self, id: &[u8], mark: &[u8]) -> Option<Listed> {
        let mark = String::from_utf8_lossy(mark);
        let read = record_of(id).and_then(|id| {
            let mark = mark.parse()?;
            Ok(Listed { id, mark })
        });
        self.spoiled.keep(&String::from_utf8_lossy(id), read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(literally(r"a*[b]?\c"), r"a\*\[b\]\?\\c");
    }
}
