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
        let (first, last, numbers, is_all, loads): Changed = self
            .scripts
            .changed
            .key(self.keys.loads_changes(service))
            .key(&key)
            .arg(first)
            .arg(last)
            .invoke_async(&mut connection)
            .await?;
        let numbers = numbers
            .into_iter()
            .filter(|(name, _)| !name.starts_with(','));
        let numbers = numbers.map(|(name, number)| {
            let reporter: ReporterId = name.parse().map_err(|_| corrupt(&name))?;
            Ok((reporter, number))
        });
        let numbers: BTreeMap<ReporterId, u64> = numbers.collect::<Result<_, StoreError>>()?;
        if is_all {
            let loads = loads.iter().map(|(_, text)| decode(text));
            let loads = loads.collect::<Result<Vec<StoredLoad>, StoreError>>()?;
            lock(known).replace((first, last), &numbers, &loads);
            return Ok(());
        }
        let unknown = lock(known).unknown(numbers);
        let mut read = Vec::with_capacity(unknown.len());
        if !unknown.is_empty() {
            let names: Vec<&str> = unknown.keys().map(ReporterId::as_str).collect();
            let texts: Vec<Option<String>> = connection.hmget(&key, &names).await?;
            for (number, text) in unknown.values().zip(texts) {
                // A report that was forgotten meanwhile is from a reporter that was silent for
                // long.
                if let Some(text) = text {
                    read.push((decode::<StoredLoad>(&text)?, *number));
                }
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
