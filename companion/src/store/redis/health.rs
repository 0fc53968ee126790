//! [`Health`] in Redis.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::AsyncCommands as _;

use super::Redis;
use crate::store::{Health, LAYOUT, StoreError};

/// How long the key of a check stays: nobody reads it.
const PROBE_SECONDS: u64 = 60;

#[async_trait]
impl Health for Redis {
    async fn check(&self) -> Result<(), StoreError> {
        self.check_layout().await?;
        // Only a write tells that writes are taken: a replica, a full memory, a failing disk and a
        // primary without its replicas all answer reads.
        let mut connection = self.connection().await?;
        let () = connection
            .set_ex(self.keys.probe(), LAYOUT, PROBE_SECONDS)
            .await?;
        Ok(())
    }

    async fn agree(&self) -> Result<(), StoreError> {
        let Some(agreement) = &self.agreement else {
            return Ok(());
        };
        let mut connection = self.connection.clone();
        let () = connection.set(self.keys.agreement(), &agreement.0).await?;
        Ok(())
    }

    fn spoiled(&self) -> BTreeMap<String, String> {
        self.spoiled.names()
    }
}
