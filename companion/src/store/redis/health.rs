//! [`Health`] in Redis.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::AsyncCommands as _;

use super::keys::Kind;
use super::{Redis, corrupt, keeping};
use crate::clock::now_ms;
use crate::store::health::any_identity;
use crate::store::{Health, Keeping, LAYOUT, StoreError};

/// How long the key of a check stays; no other code reads it.
const PROBE_SECONDS: u64 = 60;

impl Redis {
    /// The clock of Redis, in ms since the Unix epoch. Also where memory is full: what expires is freed by it.
    pub(super) async fn clock_ms(&self) -> Result<u64, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.scripts.clock.key(self.keys.probe());
        call.arg(LAYOUT).arg(PROBE_SECONDS);
        let expires_ms: u64 = call.invoke_async(&mut connection).await?;
        Ok(expires_ms.saturating_sub(PROBE_SECONDS * 1_000))
    }
}

#[async_trait]
impl Health for Redis {
    async fn check(&self) -> Result<(), StoreError> {
        self.check_layout().await?;
        // Only a write shows that writes are accepted: a replica, full memory, a failing disk and a
        // primary without its replicas all answer reads.
        let mut connection = self.connection().await?;
        let () = connection
            .set_ex(self.keys.probe(), LAYOUT, PROBE_SECONDS)
            .await?;
        Ok(())
    }

    async fn clock_ahead_ms(&self) -> Result<i64, StoreError> {
        let theirs_ms = self.clock_ms().await?;
        Ok(theirs_ms
            .cast_signed()
            .saturating_sub(now_ms().cast_signed()))
    }

    async fn identity(&self) -> Result<u64, StoreError> {
        let mut connection = self.connection().await?;
        let key = self.keys.identity();
        let mut script = redis::pipe();
        script.set_nx(&key, any_identity()).ignore();
        script.get(&key);
        let identity = script.query_async(&mut connection).await;
        let identity = self.named([(key, Kind::Text)], identity.map_err(StoreError::from));
        let (identity,): (String,) = identity.await?;
        identity.parse().map_err(|_| corrupt("identity"))
    }

    async fn keeping(&self) -> Result<Keeping, StoreError> {
        let mut connection = self.connection().await?;
        let info = redis::cmd("INFO").query_async(&mut connection).await;
        let mut save = redis::cmd("CONFIG");
        let save = save.arg("GET").arg("save");
        let save = save.query_async(&mut connection).await;
        // A server may allow neither: a value that it does not send stays unknown.
        Ok(keeping::keeping(info.ok().as_ref(), save.ok().as_ref()))
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

    fn forget_spoiled(&self) {
        self.spoiled.forget();
    }
}
