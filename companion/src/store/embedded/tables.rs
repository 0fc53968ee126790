//! The tables of the file. A bucket's number comes first in a key, so that a bucket is a range.

use redb::{TableDefinition, WriteTransaction};

use super::{StoreError, away};

/// An op in the outbox: `<dataset>/<key>`, version with its mark, value, the version before or "".
type Change<'a> = (&'a str, &'a str, &'a [u8], &'a str);

/// (bucket, `<dataset>/<key>`) → value; absent for a tombstone.
pub(super) const VALUES: TableDefinition<'_, (u8, &str), &[u8]> = TableDefinition::new("values");
/// (bucket, `<dataset>/<key>`) → version, with its mark.
pub(super) const VERSIONS: TableDefinition<'_, (u8, &str), &str> = TableDefinition::new("versions");
/// bucket → clock in ms, its counter, sequence, digest of records that do not expire, incarnation.
pub(super) const META: TableDefinition<'_, u8, (u64, u32, u64, u64, u64)> =
    TableDefinition::new("meta");
/// (bucket, epoch) → digest of records that expire in it.
pub(super) const DIGESTS: TableDefinition<'_, (u8, u64), u64> = TableDefinition::new("digests");
/// (bucket, unit) → incarnation and sequence of the last op applied without a gap; for this unit,
/// what others have from a store that it lost.
pub(super) const APPLIED: TableDefinition<'_, (u8, &str), (u64, u64)> =
    TableDefinition::new("applied");
/// (bucket, unit) → the position that every member had reached before tombstones were collected.
pub(super) const FENCE: TableDefinition<'_, (u8, &str), (u64, u64)> = TableDefinition::new("fence");
/// (bucket, sequence) → op.
pub(super) const OUTBOX: TableDefinition<'_, (u8, u64), Change<'_>> =
    TableDefinition::new("outbox");
/// (bucket, sequence) → the op's version with its mark, and the span that made it, if it is traced. Beside [`OUTBOX`], whose type older files have.
pub(super) const TRACES: TableDefinition<'_, (u8, u64), &str> = TableDefinition::new("traces");
/// (unit, bucket) → incarnation and sequence of the last op that the broker confirmed for it.
pub(super) const CURSORS: TableDefinition<'_, (&str, u8), (u64, u64)> =
    TableDefinition::new("cursors");
/// (bucket, `<dataset>/<key>`) → when it is gone, in ms: expiring records and tombstones.
pub(super) const GONE: TableDefinition<'_, (u8, &str), u64> = TableDefinition::new("gone");
/// (bucket, `<dataset>/<key>`) → [`crate::replica::Stamps`] of the record.
pub(super) const STAMPS: TableDefinition<'_, (u8, &str), &str> = TableDefinition::new("stamps");
/// (when in ms, bucket, `<dataset>/<key>`): stamps to forget.
pub(super) const STAMPS_DUE: TableDefinition<'_, (u64, u8, &str), ()> =
    TableDefinition::new("stamps_due");
/// (bucket, number) → conflict, JSON.
pub(super) const CONFLICTS: TableDefinition<'_, (u8, u64), &str> =
    TableDefinition::new("conflicts");
/// (when in ms, bucket, `<dataset>/<key>`): expiring records.
pub(super) const EXPIRING: TableDefinition<'_, (u64, u8, &str), ()> =
    TableDefinition::new("expiring");
/// bucket → the number of its last change.
pub(super) const HEADS: TableDefinition<'_, u8, u64> = TableDefinition::new("heads");
/// (bucket, number) → `<dataset>/<key>`, version with its mark: the last changes.
pub(super) const CHANGES: TableDefinition<'_, (u8, u64), (&str, &str)> =
    TableDefinition::new("changes");
/// `<service>/<instance>`, the service as [`crate::store::names`] encodes it → registered instance,
/// JSON.
pub(super) const REGISTRY: TableDefinition<'_, &str, &str> = TableDefinition::new("registry");
/// (service, reporter) → last report, JSON.
pub(super) const LOADS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("loads");
/// (service, instance) → calls, updates.
pub(super) const TOTALS: TableDefinition<'_, (&str, &str), (u64, u64)> =
    TableDefinition::new("totals");
/// (service, instance) → failures. Beside [`TOTALS`], whose type older files have.
pub(super) const FAILURES: TableDefinition<'_, (&str, &str), u64> =
    TableDefinition::new("failures");
/// (service, instance) → bytes of updates, refused updates, dropped updates. Beside [`TOTALS`], too.
pub(super) const UPDATE_TOTALS: TableDefinition<'_, (&str, &str), (u64, u64, u64)> =
    TableDefinition::new("update_totals");
/// number → entry of the event log, JSON.
pub(super) const EVENTS: TableDefinition<'_, u64, &str> = TableDefinition::new("events");
/// `<service>/<instance>` → its latest entries in the event log, [`crate::events::merging::Latest`], JSON.
pub(super) const LATEST: TableDefinition<'_, &str, &str> = TableDefinition::new("events_latest");
/// (dataset, key) → value of the fixed data.
pub(super) const FIXED: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("fixed");
/// `version`, `checksum` of the fixed data.
pub(super) const FIXED_STATE: TableDefinition<'_, &str, &str> = TableDefinition::new("fixed_state");
/// `layout`, `revision`, `event`, `event_counted`, `event_bytes`, `probe`, `settled` (up to when it freed, in ms) → number.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// `agreed`: the settings that the file's companions must share.
pub(super) const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");

/// Creates all tables, so that no reader meets a missing one.
pub(super) fn create(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(VALUES).map_err(away)?;
    transaction.open_table(VERSIONS).map_err(away)?;
    transaction.open_table(META).map_err(away)?;
    transaction.open_table(DIGESTS).map_err(away)?;
    transaction.open_table(APPLIED).map_err(away)?;
    transaction.open_table(FENCE).map_err(away)?;
    transaction.open_table(OUTBOX).map_err(away)?;
    transaction.open_table(TRACES).map_err(away)?;
    transaction.open_table(CURSORS).map_err(away)?;
    transaction.open_table(EXPIRING).map_err(away)?;
    transaction.open_table(GONE).map_err(away)?;
    transaction.open_table(STAMPS).map_err(away)?;
    transaction.open_table(STAMPS_DUE).map_err(away)?;
    transaction.open_table(CONFLICTS).map_err(away)?;
    transaction.open_table(HEADS).map_err(away)?;
    transaction.open_table(CHANGES).map_err(away)?;
    transaction.open_table(REGISTRY).map_err(away)?;
    transaction.open_table(LOADS).map_err(away)?;
    transaction.open_table(TOTALS).map_err(away)?;
    transaction.open_table(FAILURES).map_err(away)?;
    transaction.open_table(UPDATE_TOTALS).map_err(away)?;
    transaction.open_table(EVENTS).map_err(away)?;
    transaction.open_table(LATEST).map_err(away)?;
    transaction.open_table(FIXED).map_err(away)?;
    transaction.open_table(FIXED_STATE).map_err(away)?;
    transaction.open_table(NUMBERS).map_err(away)?;
    transaction.open_table(TEXTS).map_err(away)?;
    Ok(())
}
