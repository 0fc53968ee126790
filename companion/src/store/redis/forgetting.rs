//! Forgets reporters that were silent for long, and counters of unknown instances.

use std::collections::BTreeSet;

use redis::AsyncCommands as _;
use unitring_protocol::ids::ServiceName;

use super::fleet::EXPIRED_MAX;
use super::{PRUNE_MS, Redis, decode};
use crate::loads::{Owner, StoredLoad, Totals, instances, makes_room_below};
use crate::store::housekeeping::is_due;
use crate::store::names::split;
use crate::store::{Fleet as _, StoreError};

/// Later than any report is remembered, and exact in a double.
const FAR_MS: u64 = 1 << 52;

impl Redis {
    /// All remembered reports on a service.
    pub(super) async fn remembered(
        &self,
        service: &ServiceName,
    ) -> Result<Vec<StoredLoad>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<(String, String)> = connection.hgetall(self.keys.loads(service)).await?;
        let read = rows
            .iter()
            .filter_map(|(name, text)| self.spoiled.keep(name, decode(text)));
        Ok(read.collect())
    }

    /// Forgets a reporter, `<service>/<reporter>`, if it is silent at this time; returns its service.
    async fn forget_reporter(&self, key: &str, now_ms: u64) -> Result<ServiceName, StoreError> {
        let mut connection = self.connection().await?;
        let (service, reporter) = split(key)?;
        let forgotten: u8 = self
            .scripts
            .forget
            .key(self.keys.loads(&service))
            .key(self.keys.reporters())
            .key(self.keys.loads_changes(&service))
            .key(self.keys.standing())
            .arg(reporter)
            .arg(key)
            .arg(now_ms)
            .invoke_async(&mut connection)
            .await?;
        tracing::debug!(key, forgotten, "a silent reporter is forgotten");
        Ok(service)
    }

    /// Forgets the reporter of the lowest standing, if that is low enough for a new one of this owner.
    pub(super) async fn make_room(&self, owner: &Owner, now_ms: u64) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        let below = format!("({}", makes_room_below(owner, now_ms));
        let lowest: Vec<String> = connection
            .zrangebyscore_limit(self.keys.standing(), "-inf", below, 0, 1)
            .await?;
        let Some(key) = lowest.first() else {
            return Ok(false);
        };
        self.forget_reporter(key, FAR_MS).await?;
        Ok(true)
    }

    /// Forgets all reports on a service, of living reporters too, and its counters.
    pub(super) async fn forget_all_of(&self, service: &ServiceName) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        let keys: Vec<String> = connection.zrange(self.keys.reporters(), 0, -1).await?;
        let mut was_there = false;
        for key in &keys {
            if split(key).is_ok_and(|(of, _)| of == *service) {
                self.forget_reporter(key, FAR_MS).await?;
                was_there = true;
            }
        }
        let counters: u64 = connection.del(self.keys.totals(service)).await?;
        Ok(was_there || counters > 0)
    }

    /// Removes reports that were not renewed, and the counters of instances that no report or
    /// registration names.
    pub(super) async fn forget(&self, now_ms: u64) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let silent: Vec<String> = connection
            .zrangebyscore_limit(self.keys.reporters(), "-inf", now_ms, 0, EXPIRED_MAX)
            .await?;
        let mut services = BTreeSet::new();
        for key in &silent {
            match self.forget_reporter(key, now_ms).await {
                Err(StoreError::Corrupt(why)) => {
                    let name = format!("{} {key}", self.keys.reporters());
                    self.spoiled.note_key(&name, &why);
                }
                service => drop(services.insert(service?)),
            }
        }
        if is_due(&self.pruned_ms, PRUNE_MS, now_ms) {
            services.extend(self.reported().await?);
        }
        if services.is_empty() {
            return Ok(());
        }
        let registry = self.registry().await?;
        for service in services {
            let mut known = instances(&self.remembered(&service).await?);
            known.extend(
                registry
                    .instances(service.as_str())
                    .map(|instance| instance.id.clone()),
            );
            let totals = self.totals(&service).await?;
            for gone in totals.keys().filter(|id| !known.contains(*id)) {
                let counters = Totals::default().named();
                let fields = counters.map(|(counter, _)| format!("{gone} {counter}"));
                let _: u64 = connection.hdel(self.keys.totals(&service), &fields).await?;
            }
        }
        Ok(())
    }
}
