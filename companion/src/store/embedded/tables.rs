//! The tables of the file. A bucket's number comes first in a key, so that a bucket is a range.

use redb::{TableDefinition, WriteTransaction};

use super::{StoreError, away};

/// (bucket, `<dataset>/<key>`) → value; absent for a tombstone.
pub(super) const VALUES: TableDefinition<'_, (u8, &str), &[u8]> = TableDefinition::new("values");
/// (bucket, `<dataset>/<key>`) → version, with its mark.
pub(super) const VERSIONS: TableDefinition<'_, (u8, &str), &str> = TableDefinition::new("versions");
/// bucket → clock in ms, its counter, sequence, digest.
pub(super) const META: TableDefinition<'_, u8, (u64, u32, u64, u64)> = TableDefinition::new("meta");
/// (bucket, unit) → the last op applied without a gap.
pub(super) const APPLIED: TableDefinition<'_, (u8, &str), u64> = TableDefinition::new("applied");
/// (bucket, sequence) → `<dataset>/<key>`, version with its mark, value.
pub(super) const OUTBOX: TableDefinition<'_, (u8, u64), (&str, &str, &[u8])> =
    TableDefinition::new("outbox");
/// (when in ms, bucket, `<dataset>/<key>`): what expires.
pub(super) const EXPIRING: TableDefinition<'_, (u64, u8, &str), ()> =
    TableDefinition::new("expiring");
/// bucket → the number of its last change.
pub(super) const HEADS: TableDefinition<'_, u8, u64> = TableDefinition::new("heads");
/// (bucket, number) → `<dataset>/<key>`, version with its mark: the last changes.
pub(super) const CHANGES: TableDefinition<'_, (u8, u64), (&str, &str)> =
    TableDefinition::new("changes");
/// `<service>/<instance>` → registered instance, JSON.
pub(super) const REGISTRY: TableDefinition<'_, &str, &str> = TableDefinition::new("registry");
/// (service, reporter) → last report, JSON.
pub(super) const LOADS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("loads");
/// (service, instance) → calls, updates.
pub(super) const TOTALS: TableDefinition<'_, (&str, &str), (u64, u64)> =
    TableDefinition::new("totals");
/// number → event, JSON.
pub(super) const EVENTS: TableDefinition<'_, u64, &str> = TableDefinition::new("events");
/// `layout`, `revision`, `event` → number.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// Creates all of them, so that no reader meets a missing table.
pub(super) fn create(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(VALUES).map_err(away)?;
    transaction.open_table(VERSIONS).map_err(away)?;
    transaction.open_table(META).map_err(away)?;
    transaction.open_table(APPLIED).map_err(away)?;
    transaction.open_table(OUTBOX).map_err(away)?;
    transaction.open_table(EXPIRING).map_err(away)?;
    transaction.open_table(HEADS).map_err(away)?;
    transaction.open_table(CHANGES).map_err(away)?;
    transaction.open_table(REGISTRY).map_err(away)?;
    transaction.open_table(LOADS).map_err(away)?;
    transaction.open_table(TOTALS).map_err(away)?;
    transaction.open_table(EVENTS).map_err(away)?;
    transaction.open_table(NUMBERS).map_err(away)?;
    Ok(())
}
