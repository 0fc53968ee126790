//! Gathers the fixed data of other units until all parts are there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use unitring_protocol::envelope::{FixedPart, FixedState};
use unitring_protocol::ids::UnitId;

use crate::fixed::{BYTES_MAX, FixedData};

type Datasets = BTreeMap<String, BTreeMap<String, String>>;

/// Most parts of one version; each has about a mebibyte.
const PARTS_MAX: u32 = 4_096;

/// The parts from one unit so far.
#[derive(Debug)]
struct Incoming {
    state: FixedState,
    of: u32,
    parts: BTreeMap<u32, Datasets>,
    bytes: u64,
}

/// What a value takes beside its own bytes. A line of the file has more, so data that are loaded from a file never
/// reach the bound by it.
const VALUE_BYTES: usize = 32;

/// What a part counts as.
fn bytes(datasets: &Datasets) -> u64 {
    let values = datasets.iter().map(|(dataset, values)| {
        let each = values
            .iter()
            .map(|(key, value)| dataset.len() + key.len() + value.len() + VALUE_BYTES);
        each.sum::<usize>().max(dataset.len() + VALUE_BYTES)
    });
    u64::try_from(values.sum::<usize>()).unwrap_or(u64::MAX)
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
        let new = bytes(&part.datasets);
        let old = incoming.parts.insert(part.number, part.datasets);
        let old = old.map_or(0, |old| bytes(&old));
        incoming.bytes = incoming.bytes.saturating_add(new).saturating_sub(old);
        if incoming.bytes > BYTES_MAX {
            of_unit.remove(from);
            return None;
        }
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

    #[test]
    fn data_without_end_are_dropped_and_a_part_that_comes_twice_counts_once() {
        let (gathering, unit): (_, UnitId) = (Gathering::default(), "west".parse().unwrap());
        let part = |number: u32, values: usize, bytes: usize| {
            let value = |at: usize| (format!("{at}"), "v".repeat(bytes));
            FixedPart {
                state: FixedState {
                    version: 1,
                    checksum: "c".to_owned(),
                },
                number,
                of: 4_096,
                datasets: [("d".to_owned(), (0..values).map(value).collect())].into(),
            }
        };
        let held = || {
            let of_unit = gathering.of_unit.lock().unwrap();
            of_unit.get(&unit).map(|incoming| incoming.parts.len())
        };
        for _ in 0..100 {
            assert_eq!(gathering.gathered(&unit, part(0, 1, 1 << 20)), None);
        }
        assert_eq!(held(), Some(1));
        // Values of no bytes take memory, too.
        let mut number = 0;
        while held().is_some() {
            number += 1;
            assert!(number < 256, "nothing is dropped");
            assert_eq!(gathering.gathered(&unit, part(number, 10_000, 0)), None);
        }
        assert!(number > 100, "{number}");
    }
}
