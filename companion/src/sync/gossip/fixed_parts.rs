//! Fixed data → parts that no broker refuses.

use std::collections::BTreeMap;

use unitring_protocol::envelope::{Body, FixedPart, FixedState};

use super::messages::room;
use crate::fixed::FixedData;
use crate::sync::machine::message::{MESSAGE_BYTES_MAX, json_bytes};

/// Bytes of fixed data in a message, unless a single value has more.
const FIXED_BYTES: usize = 1 << 20;

/// All fixed data, in parts for a broker with this limit. A value that is too large alone makes a part that is too
/// large.
pub(super) fn messages(state: &FixedState, data: FixedData, limit: Option<usize>) -> Vec<Body> {
    let limit = limit.map(|limit| limit.min(MESSAGE_BYTES_MAX));
    let room = room(FIXED_BYTES, limit);
    let mut all: Vec<BTreeMap<String, BTreeMap<String, String>>> = vec![BTreeMap::new()];
    let mut bytes = 0;
    for (dataset, values) in data.datasets {
        for (key, value) in values {
            // Every part with a value of a dataset names the dataset.
            let is_new = |part: &BTreeMap<String, _>| !part.contains_key(&dataset);
            let mut name = all
                .last()
                .filter(|part| is_new(part))
                .map_or(0, |_| json_bytes(&dataset) + 4);
            let size = json_bytes(&key) + json_bytes(&value) + 2;
            if bytes > 0 && bytes + name + size > room {
                all.push(BTreeMap::new());
                name = json_bytes(&dataset) + 4;
                bytes = 0;
            }
            bytes += name + size;
            if let Some(part) = all.last_mut() {
                part.entry(dataset.clone()).or_default().insert(key, value);
            }
        }
    }
    let of = u32::try_from(all.len()).unwrap_or(u32::MAX);
    let numbered = (0..).zip(all).map(|(number, datasets)| {
        Body::Fixed(FixedPart {
            state: state.clone(),
            number,
            of,
            datasets,
        })
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::machine::message::encode;

    #[test]
    fn parts_fit_their_broker_whatever_the_values_are() {
        let mut data = FixedData::default();
        // Datasets of one value each, values that JSON makes six times as long, and empty ones.
        for number in 0..2_000 {
            let dataset = data.datasets.entry(format!("{number:064}")).or_default();
            dataset.insert("k".to_owned(), String::new());
        }
        for number in 0..2_000 {
            let dataset = data.datasets.entry("d".to_owned()).or_default();
            dataset.insert(format!("{number}"), "\u{1}".repeat(number));
        }
        let state = FixedState {
            version: u64::MAX,
            checksum: "c".repeat(40),
        };
        for limit in [None, Some(40_000), Some(100 << 20)] {
            let mut again = FixedData::default();
            let parts = messages(&state, data.clone(), limit);
            for body in &parts {
                let bytes = encode(&"east".parse().unwrap(), body).unwrap().len();
                assert!(
                    bytes <= limit.unwrap_or(FIXED_BYTES).min(FIXED_BYTES),
                    "{bytes}"
                );
                let Body::Fixed(part) = body else {
                    panic!("{body:?}")
                };
                assert_eq!(part.of as usize, parts.len());
                for (dataset, values) in part.datasets.clone() {
                    again.datasets.entry(dataset).or_default().extend(values);
                }
            }
            assert!(parts.len() > 1);
            assert_eq!(again.checksum(), data.checksum());
        }
    }
}
