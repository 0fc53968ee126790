//! [`Browse`] in the file.

use async_trait::async_trait;
use redb::{Durability, ReadableTable as _};
use unitring_protocol::ids::{DatasetName, RecordKey};

use super::tables::{CHANGES, EXPIRING, HEADS, VERSIONS};
use super::writes::sweep;
use super::{Embedded, away};
use crate::store::digest::record_id;
use crate::store::{Browse, CHANGES_MAX, Changes, Fixed, Listed, Mark, StoreError};

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
                let mark: Mark = mark.value().parse()?;
                if mark.is_live(now_ms) {
                    let id = record_id(id)?;
                    listed.push(Listed { id, mark });
                }
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
                let (id, mark) = (record_id(id)?, mark.parse()?);
                changes.push((number, Listed { id, mark }));
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

    /// Fixed data are those of a group of servers.
    async fn fixed(&self) -> Result<Option<Fixed>, StoreError> {
        Ok(None)
    }

    async fn fixed_value(
        &self,
        _dataset: &DatasetName,
        _key: &RecordKey,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
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
