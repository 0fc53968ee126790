//! [`ChangeFeed`] in the file.

use std::sync::Arc;

use async_trait::async_trait;

use super::tables::{CHANGES, HEADS};
use super::{Embedded, away};
use crate::replica::digest::record_id;
use crate::store::{CHANGES_MAX, ChangeFeed, Changes, Listed, StoreError};

#[async_trait]
impl ChangeFeed for Embedded {
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
}
