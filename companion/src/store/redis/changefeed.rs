//! [`ChangeFeed`] in Redis: a stream for each bucket.

use async_trait::async_trait;
use redis::{AsyncCommands as _, RedisResult};

use super::Redis;
use super::buckets::of_each_bucket;
use crate::store::{CHANGES_MAX, ChangeFeed, Changes, Listed, StoreError};

#[async_trait]
impl ChangeFeed for Redis {
    async fn heads(&self) -> Result<Vec<u64>, StoreError> {
        let connection = self.connection().await?;
        let heads = of_each_bucket(|bucket| {
            let (mut connection, meta) = (connection.clone(), self.keys.meta(bucket));
            async move {
                let head: RedisResult<Option<u64>> = connection.hget(meta, "changes").await;
                let head = head.map_err(StoreError::from);
                Ok(self
                    .unless_foreign(bucket, head)
                    .await?
                    .flatten()
                    .unwrap_or(0))
            }
        });
        heads.await
    }

    async fn changes(&self, bucket: u8, after: u64) -> Result<Changes, StoreError> {
        let mut connection = self.connection().await?;
        let from = format!("({after}-0");
        let rows = connection
            .xrange_count(self.keys.changes(bucket), from, "+", CHANGES_MAX)
            .await;
        let rows: Result<Vec<(String, Vec<Vec<u8>>)>, StoreError> = rows.map_err(StoreError::from);
        let rows = self.unless_foreign(bucket, rows).await?.unwrap_or_default();
        let mut changes = Vec::with_capacity(rows.len());
        for (entry, fields) in &rows {
            let number = entry
                .strip_suffix("-0")
                .and_then(|number| number.parse().ok());
            let (Some(number), [_, id, _, mark]) = (number, fields.as_slice()) else {
                let why = "an entry of another client: delete it by XDEL, or the whole log by DEL";
                let name = format!("{} {entry}", self.keys.changes(bucket));
                self.spoiled.note_key(&name, &why);
                continue;
            };
            changes.extend(self.listed(id, mark).map(|listed| (number, listed)));
        }
        let first = changes.first().map(|(number, _): &(u64, Listed)| *number);
        Ok(Changes {
            missed: first.is_some_and(|first| first > after.saturating_add(1)),
            changes,
        })
    }
}
