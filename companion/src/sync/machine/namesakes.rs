//! Which stores speak in a unit's name. Each store has an identity, and digests carry it. A unit has one; after
//! its store was lost it has another. Two that take turns are two units of one name, or two groups at one broker.

use std::collections::{BTreeMap, VecDeque};

use unitring_protocol::ids::UnitId;

/// Stores of a unit that are remembered.
const STORES_MAX: usize = 4;
/// A store that has not spoken for this long is forgotten.
const FORGET_MS: u64 = 600_000;

/// The stores that were heard of each unit, the latest last, and when.
#[derive(Debug, Default)]
pub(super) struct Namesakes {
    heard: BTreeMap<UnitId, VecDeque<(u64, u64)>>,
}

impl Namesakes {
    /// A store spoke in a unit's name; whether it takes turns with another.
    pub(super) fn heard(&mut self, unit: &UnitId, store: u64, now_ms: u64) -> bool {
        let stores = self.heard.entry(unit.clone()).or_default();
        stores.retain(|(_, at_ms)| now_ms < at_ms.saturating_add(FORGET_MS));
        if let Some(last) = stores.back_mut().filter(|(last, _)| *last == store) {
            last.1 = now_ms;
            return false;
        }
        let before = stores.len();
        stores.retain(|(other, _)| *other != store);
        let is_back = stores.len() < before;
        stores.push_back((store, now_ms));
        if stores.len() > STORES_MAX {
            stores.pop_front();
        }
        is_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_lost_is_no_namesake_and_one_that_takes_turns_is() {
        let (mut namesakes, east) = (Namesakes::default(), "east".parse().unwrap());
        assert!(!namesakes.heard(&east, 1, 1_000));
        assert!(!namesakes.heard(&east, 1, 2_000));
        // The unit lost its store and has a new one.
        assert!(!namesakes.heard(&east, 2, 3_000));
        assert!(!namesakes.heard(&east, 2, 4_000));
        // The first one speaks again.
        assert!(namesakes.heard(&east, 1, 5_000));
        assert!(namesakes.heard(&east, 2, 6_000));
        // A store that was put back after a long time is no second unit.
        assert!(!namesakes.heard(&east, 1, 6_001 + FORGET_MS));
    }
}
