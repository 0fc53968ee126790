//! The counters of instances. They are in three tables, since a table keeps the type that its first version had:
//! an older file has only the first, or the first two.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use unitring_protocol::ids::{InstanceId, ServiceName};

use super::away;
use super::tables::{FAILURES, TOTALS, UPDATE_TOTALS};
use crate::loads::Totals;
use crate::store::StoreError;

/// Service and instance.
type Key = (&'static str, &'static str);

/// The counters of an instance whose calls and updates are these.
fn joined(
    key: (&str, &str),
    (calls, updates): (u64, u64),
    failures: &impl ReadableTable<Key, u64>,
    update_totals: &impl ReadableTable<Key, (u64, u64, u64)>,
) -> Result<Totals, StoreError> {
    let failures = failures.get(key).map_err(away)?;
    let further = update_totals.get(key).map_err(away)?;
    let (update_bytes, updates_refused, updates_dropped) =
        further.map_or_else(Default::default, |row| row.value());
    Ok(Totals {
        calls,
        failures: failures.map_or(0, |row| row.value()),
        updates,
        update_bytes,
        updates_refused,
        updates_dropped,
    })
}

/// The counters of a service's instances.
pub(super) fn read(
    transaction: &ReadTransaction,
    service: &ServiceName,
) -> Result<BTreeMap<InstanceId, Totals>, StoreError> {
    let totals = transaction.open_table(TOTALS).map_err(away)?;
    let failures = transaction.open_table(FAILURES).map_err(away)?;
    let update_totals = transaction.open_table(UPDATE_TOTALS).map_err(away)?;
    let mut found = BTreeMap::new();
    for row in totals.range((service.as_str(), "")..).map_err(away)? {
        let (key, row) = row.map_err(away)?;
        let (of, instance) = key.value();
        if of != service.as_str() {
            break;
        }
        let id: InstanceId = instance
            .parse()
            .map_err(|_| StoreError::Corrupt(format!("instance {instance:?}")))?;
        let totals = joined((of, instance), row.value(), &failures, &update_totals)?;
        found.insert(id, totals);
    }
    Ok(found)
}

/// Adds the growth of a service's counters.
pub(super) fn add(
    transaction: &WriteTransaction,
    service: &ServiceName,
    growth: &BTreeMap<InstanceId, Totals>,
) -> Result<(), StoreError> {
    let mut totals = transaction.open_table(TOTALS).map_err(away)?;
    let mut failures = transaction.open_table(FAILURES).map_err(away)?;
    let mut update_totals = transaction.open_table(UPDATE_TOTALS).map_err(away)?;
    for (instance, growth) in growth {
        let key = (service.as_str(), instance.as_str());
        let row = totals.get(key).map_err(away)?;
        let row = row.map_or((0, 0), |row| row.value());
        let before = joined(key, row, &failures, &update_totals)?;
        let sum = before.plus(*growth);
        totals.insert(key, (sum.calls, sum.updates)).map_err(away)?;
        // Most instances grow by neither.
        if sum.failures > before.failures {
            failures.insert(key, sum.failures).map_err(away)?;
        }
        let further = |totals: Totals| {
            (
                totals.update_bytes,
                totals.updates_refused,
                totals.updates_dropped,
            )
        };
        if further(sum) != further(before) {
            update_totals.insert(key, further(sum)).map_err(away)?;
        }
    }
    Ok(())
}

/// Removes the counters of all instances but those for which `stays` is true of service and id.
pub(super) fn retain(
    transaction: &WriteTransaction,
    mut stays: impl FnMut(&str, &str) -> bool,
) -> Result<(), StoreError> {
    let mut totals = transaction.open_table(TOTALS).map_err(away)?;
    totals
        .retain(|(service, id), _| stays(service, id))
        .map_err(away)?;
    let mut failures = transaction.open_table(FAILURES).map_err(away)?;
    failures
        .retain(|(service, id), _| stays(service, id))
        .map_err(away)?;
    let mut update_totals = transaction.open_table(UPDATE_TOTALS).map_err(away)?;
    update_totals
        .retain(|(service, id), _| stays(service, id))
        .map_err(away)
}
