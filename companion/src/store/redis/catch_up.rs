//! Reads the reports that other companions of the unit took since this one last read: into its
//! picture of the fleet's load, and only what changed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use redis::AsyncCommands as _;
use unitring_protocol::ids::{ReporterId, ServiceName};

use super::pictures::{Known, lock};
use super::{Redis, corrupt, decode};
use crate::loads::StoredLoad;
use crate::store::StoreError;

/// The answer of `changed.lua`.
type Changed = (u64, u64, Vec<(String, u64)>, bool, Vec<(String, String)>);

impl Redis {
    /// Reads the reports on a service since the last read.
    pub(super) async fn catch_up(
        &self,
        service: &ServiceName,
        known: &Mutex<Known>,
    ) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let key = self.keys.loads(service);
        let (first, last) = lock(known).read_from();
        let changed = self
            .scripts
            .changed
            .key(self.keys.loads_changes(service))
            .key(&key)
            .arg(first)
            .arg(last)
            .invoke_async(&mut connection)
            .await;
        let keys = self.keys.of_service_and_unit(service);
        let changed = self.named(keys, changed.map_err(StoreError::from));
        let (first, last, numbers, is_all, loads): Changed = changed.await?;
        let numbers = numbers
            .into_iter()
            .filter(|(name, _)| !name.starts_with(','));
        // What no unitring wrote counts for nothing; its reporter replaces it.
        let numbers = numbers.filter_map(|(name, number)| {
            let reporter = name.parse::<ReporterId>().map_err(|_| corrupt(&name));
            Some((self.spoiled.keep(&name, reporter)?, number))
        });
        let numbers: BTreeMap<ReporterId, u64> = numbers.collect();
        let load = |name: &str, text: &str| self.spoiled.keep(name, decode::<StoredLoad>(text));
        if is_all {
            let loads = loads.iter().filter_map(|(name, text)| load(name, text));
            let loads: Vec<StoredLoad> = loads.collect();
            lock(known).replace((first, last), &numbers, &loads);
            return Ok(());
        }
        let unknown = lock(known).unknown(numbers);
        let mut read = Vec::with_capacity(unknown.len());
        if !unknown.is_empty() {
            let names: Vec<&str> = unknown.keys().map(ReporterId::as_str).collect();
            let texts: Vec<Option<String>> = connection.hmget(&key, &names).await?;
            for ((reporter, number), text) in unknown.iter().zip(texts) {
                // A report that was forgotten meanwhile is from a reporter that was silent for
                // long.
                let text = text.and_then(|text| load(reporter.as_str(), &text));
                read.extend(text.map(|load| (load, *number)));
            }
        }
        let mut known = lock(known);
        for (load, number) in &read {
            known.put(load, *number);
        }
        known.read_through(first, last);
        Ok(())
    }
}
