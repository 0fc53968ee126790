//! Which units left the group. Each is a record like any other, so every unit learns of it and none
//! forgets it.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::{Body, Repair};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Record, RecordId, Value};

use crate::replica::digest::bucket_of;
use crate::store::{Store, StoreError};

/// The dataset of these records. The key is the unit's name; the unit has left while its record
/// exists.
pub(crate) const DATASET: &str = "unitring.removed";
const REMOVED: &str = "removed";

/// The record that says that a unit left.
pub(crate) fn record(unit: &UnitId) -> Option<RecordId> {
    Some(RecordId {
        dataset: DATASET.parse().ok()?,
        key: unit.as_str().parse().ok()?,
    })
}

/// The value of a record that removes a unit: it names the stores that were heard in the unit's name, if any was. A unit
/// that comes back has an empty store, which is another one, and an old removal that reaches it late is not about it.
pub(crate) fn removal(stores: &BTreeSet<u64>) -> String {
    let names = stores.iter().map(|store| format!(" {store:016x}"));
    std::iter::once(REMOVED.to_owned()).chain(names).collect()
}

/// Whether the value of such a record is about this store. One that names no store is about each.
pub(super) fn is_about(value: &Value, store: u64) -> bool {
    let text = String::from_utf8_lossy(&value.0);
    let mut names = text.split(' ').skip(1).peekable();
    names.peek().is_none() || names.any(|name| name == format!("{store:016x}"))
}

/// A message that tells a unit that it was removed: the record as a part of a repair, in which it changes nothing else.
pub(super) fn notice(removal: Record) -> Body {
    Body::Repair(Repair {
        bucket: bucket_of(&removal.id),
        clock: removal.version.clock,
        records: vec![removal],
        positions: BTreeMap::new(),
        is_last: false,
    })
}

/// Whether a record that removes a unit names the stores that it is about.
pub(super) fn names_stores(removal: &Record) -> bool {
    let value = removal.value.as_ref();
    value.is_some_and(|value| value.0.contains(&b' '))
}

/// Which of these units and this one left.
pub(super) async fn removed(
    store: &dyn Store,
    peers: &[UnitId],
    own: &UnitId,
    now_ms: u64,
) -> Result<BTreeSet<UnitId>, StoreError> {
    let mut removed = BTreeSet::new();
    for unit in peers {
        if removal_of(store, unit, now_ms).await?.is_some() {
            removed.insert(unit.clone());
        }
    }
    if is_out(store, own, now_ms).await? {
        removed.insert(own.clone());
    }
    Ok(removed)
}

/// Whether this unit, with this store, left.
pub(super) async fn is_out(
    store: &dyn Store,
    own: &UnitId,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let removal = removal_of(store, own, now_ms).await?;
    let Some(value) = removal.and_then(|removal| removal.value) else {
        return Ok(false);
    };
    Ok(is_about(&value, store.identity().await?))
}

/// The record that says that a unit left, if it did.
pub(super) async fn removal_of(
    store: &dyn Store,
    unit: &UnitId,
    now_ms: u64,
) -> Result<Option<Record>, StoreError> {
    let Some(id) = record(unit) else {
        return Ok(None);
    };
    let found = store.read(&id).await?;
    Ok(found.filter(|record| record.live(now_ms).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value(text.as_bytes().to_vec())
    }

    #[test]
    fn a_removal_is_about_the_stores_that_it_names() {
        let named = value(&removal(&[7, u64::MAX].into()));
        assert!(is_about(&named, 7) && is_about(&named, u64::MAX));
        assert!(!is_about(&named, 8));
    }

    #[test]
    fn a_removal_that_names_no_store_is_about_each() {
        for text in [&removal(&BTreeSet::new()), "", "anything"] {
            assert!(is_about(&value(text), 7), "{text}");
        }
        assert!(is_about(&Value(vec![0xff]), 7));
    }
}
