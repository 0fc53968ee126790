//! Who has left the group: records like any other, so that every unit learns of it and none forgets.

use std::collections::BTreeSet;

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::RecordId;

use crate::store::{Records, StoreError};

/// The dataset of these records: the key is a unit's name, and it has left while there is one.
pub const DATASET: &str = "unitring.removed";

/// The record that says that a unit has left.
pub fn record(unit: &UnitId) -> Option<RecordId> {
    Some(RecordId {
        dataset: DATASET.parse().ok()?,
        key: unit.as_str().parse().ok()?,
    })
}

/// Who of these has left.
pub(super) async fn removed(
    records: &dyn Records,
    units: impl Iterator<Item = &UnitId>,
    now_ms: u64,
) -> Result<BTreeSet<UnitId>, StoreError> {
    let mut removed = BTreeSet::new();
    for unit in units {
        let Some(id) = record(unit) else { continue };
        let found = records.read(&id).await?;
        if found.is_some_and(|record| record.live(now_ms).is_some()) {
            removed.insert(unit.clone());
        }
    }
    Ok(removed)
}
