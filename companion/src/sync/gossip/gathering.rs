//! Gathers the fixed data of other units until all parts are there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use unitring_protocol::envelope::{FixedPart, FixedState};
use unitring_protocol::ids::UnitId;

use crate::fixed::{BYTES_MAX, FixedData};

/// Most parts of one version; each has about a mebibyte.
const PARTS_MAX: u32 = 4_096;

/// The parts from one unit so far.
#[derive(Debug)]
struct Incoming {
    state: FixedState,
    of: u32,
    parts: BTreeMap<u32, BTreeMap<String, BTreeMap<String, String>>>,
    bytes: u64,
}

/// The parts from all units; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathering {
    of_unit: Arc<Mutex<BTreeMap<UnitId, Incoming>>>,
}

impl Gathering {
    /// Adds a part; returns the data once all parts are there. A part of another version starts
    /// over; data that grow beyond the bound are dropped.
    pub(super) fn gathered(
        &self,
        from: &UnitId,
        part: FixedPart,
    ) -> Option<(FixedState, FixedData)> {
        let mut of_unit = self.of_unit.lock().unwrap_or_else(PoisonError::into_inner);
        if part.of == 0 || part.of > PARTS_MAX || part.number >= part.of {
            return None;
        }
        let begin = || Incoming {
            state: part.state.clone(),
            of: part.of,
            parts: BTreeMap::new(),
            bytes: 0,
        };
        let incoming = of_unit.entry(from.clone()).or_insert_with(begin);
        if incoming.state != part.state || incoming.of != part.of {
            *incoming = begin();
        }
        let values = part.datasets.values().flatten();
        let bytes = values.map(|(key, value)| key.len() + value.len());
        incoming.bytes += u64::try_from(bytes.sum::<usize>()).unwrap_or(u64::MAX);
        if incoming.bytes > BYTES_MAX {
            of_unit.remove(from);
            return None;
        }
        incoming.parts.insert(part.number, part.datasets);
        if incoming.parts.len() < usize::try_from(incoming.of).ok()? {
            return None;
        }
        let whole = of_unit.remove(from)?;
        let mut data = FixedData::default();
        for (dataset, values) in whole.parts.into_values().flatten() {
            data.datasets.entry(dataset).or_default().extend(values);
        }
        Some((whole.state, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_whole_once_every_part_of_one_version_is_there() {
        let (gathering, unit): (_, UnitId) = (Gathering::default(), "west".parse().unwrap());
        let part = |version: u64, number: u32| FixedPart {
            state: FixedState {
                version,
                checksum: "c".to_owned(),
            },
            number,
            of: 2,
            datasets: [(
                "d".to_owned(),
                [(format!("k{number}"), "v".to_owned())].into(),
            )]
            .into(),
        };
        assert_eq!(gathering.gathered(&unit, part(1, 0)), None);
        assert_eq!(
            gathering.gathered(&unit, part(1, 0)),
            None,
            "the same twice"
        );
        assert_eq!(
            gathering.gathered(&unit, part(2, 1)),
            None,
            "of another version"
        );
        assert_eq!(gathering.gathered(&unit, part(2, 7)), None, "no such part");
        let (state, data) = gathering.gathered(&unit, part(2, 0)).unwrap();
        assert_eq!((state.version, data.count()), (2, 2));
    }
}
