//! Which units left the group. Each is a record like any other, so every unit learns of it and none
//! forgets it.

use std::collections::BTreeSet;

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::RecordId;

use crate::store::{Records, StoreError};

/// The dataset of these records. The key is the unit's name; the unit has left while its record
/// exists.
pub(crate) const DATASET: &str = "unitring.removed";

/// The record that says that a unit left.
pub(crate) fn record(unit: &UnitId) -> Option<RecordId> {
    Some(RecordId {
        dataset: DATASET.parse().ok()?,
        key: unit.as_str().parse().ok()?,
    })
}

/// Which of these units left.
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
