//! [`Housekeeping`] in Redis, which expires values by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::{AsyncCommands as _, ScriptInvocation};
use unitring_protocol::ids::{InstanceId, UnitId};
use unitring_protocol::record::Position;

use super::buckets::of_each_bucket;
use super::fleet::EXPIRED_MAX;
use super::{Redis, corrupt};
use crate::moment::Moment;
use crate::store::names::split;
use crate::store::{COLLECTED_MAX, Compacted, Housekeeping, SWEPT_MAX, Settled, StoreError};

#[async_trait]
impl Housekeeping for Redis {
    async fn settled(&self, moment: Moment) -> Result<Settled, StoreError> {
        let clock_ms = self.clock_ms().await?;
        Ok(Settled::by(clock_ms, moment.wall_ms))
    }

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
                let swept = call.invoke_async(&mut connection).await;
                let swept = swept.map_err(StoreError::from);
                let swept: Option<u64> = self.unless_foreign(bucket, swept).await?;
                Ok(swept.unwrap_or(0))
            }
        });
        Ok(swept.await?.iter().sum())
    }

    async fn collect(
        &self,
        bucket: u8,
        before_ms: u64,
        fence: &BTreeMap<UnitId, Position>,
    ) -> Result<u64, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.sweep_call(bucket);
        call.arg(before_ms).arg(COLLECTED_MAX);
        for (unit, position) in fence {
            call.arg(unit.as_str()).arg(position.to_string());
        }
        let collected = call.invoke_async(&mut connection).await;
        let collected = collected.map_err(StoreError::from);
        let collected: Option<u64> = self.unless_foreign(bucket, collected).await?;
        Ok(collected.unwrap_or(0))
    }

    async fn expire(&self, now_ms: u64) -> Result<u64, StoreError> {
        let mut connection = self.connection().await?;
        let is_held: bool = connection.exists(self.keys.expiry_held()).await?;
        let expired: Vec<String> = match is_held {
            true => Vec::new(),
            false => {
                connection
                    .zrangebyscore_limit(self.keys.expiry(), "-inf", now_ms, 0, EXPIRED_MAX)
                    .await?
            }
        };
        let mut removed = 0;
        for key in &expired {
            let read = split(key).and_then(|(service, id)| {
                let id: InstanceId = id.parse().map_err(|_| corrupt(key))?;
                Ok((service, id))
            });
            let name = format!("{} {key}", self.keys.expiry());
            let Some((service, id)) = self.spoiled.keep(&name, read) else {
                continue;
            };
            let reason = "its time to live ran out";
            if self
                .remove((&service, &id), Some(now_ms), reason, now_ms)
                .await?
            {
                removed += 1;
            }
        }
        self.forget(now_ms).await?;
        Ok(removed)
    }

    async fn hold_expiry(&self, time: Duration) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let _: () = connection.pset_ex(self.keys.expiry_held(), "1", ms).await?;
        Ok(())
    }

    async fn compact(&self) -> Result<Option<Compacted>, StoreError> {
        Ok(None)
    }
}

impl Redis {
    /// A call of sweep.lua with its keys.
    fn sweep_call(&self, bucket: u8) -> ScriptInvocation<'_> {
        let mut call = self.scripts.sweep.prepare_invoke();
        call.key(self.keys.versions(bucket))
            .key(self.keys.meta(bucket))
            .key(self.keys.gone(bucket))
            .key(self.keys.fence(bucket));
        call
    }
}
