//! [`Health`] in the file.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redb::{Durability, ReadableTable as _};

use super::tables::NUMBERS;
use super::{Embedded, away, off_thread};
use crate::store::health::any_identity;
use crate::store::{Health, Keeping, StoreError};

#[async_trait]
impl Health for Embedded {
    async fn check(&self) -> Result<(), StoreError> {
        // Only a write shows that writes are accepted: a full disk answers reads.
        let now_ms = crate::clock::now_ms();
        self.change(Durability::Immediate, move |transaction, _| {
            let mut numbers = transaction.open_table(NUMBERS).map_err(away)?;
            numbers.insert("probe", now_ms).map_err(away)?;
            Ok(())
        })
        .await
    }

    /// The file expires values by this process' clock.
    async fn clock_ahead_ms(&self) -> Result<i64, StoreError> {
        self.agreed.check()?;
        Ok(0)
    }

    async fn identity(&self) -> Result<u64, StoreError> {
        self.change(Durability::Immediate, move |transaction, _| {
            let mut numbers = transaction.open_table(NUMBERS).map_err(away)?;
            let found = numbers.get("identity").map_err(away)?;
            if let Some(found) = found.map(|number| number.value()) {
                return Ok(found);
            }
            let identity = any_identity();
            numbers.insert("identity", identity).map_err(away)?;
            Ok(identity)
        })
        .await
    }

    async fn keeping(&self) -> Result<Keeping, StoreError> {
        Ok(Keeping {
            kind: "embedded",
            ..Keeping::default()
        })
    }

    async fn agree(&self) -> Result<(), StoreError> {
        let store = self.clone();
        off_thread(move || store.agree_now()).await
    }

    fn spoiled(&self) -> BTreeMap<String, String> {
        self.spoiled.names()
    }

    fn forget_spoiled(&self) {
        self.spoiled.forget();
    }
}
