//! Invariant 1 without an Envoy: Envoy's recorded choices, and where keys go if their owner is full
//! (`golden/README.md` says how they were recorded).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::cell::RefCell;
use std::env;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use unitring_routing::bounded::{Bound, Loads};
use unitring_routing::hash::HashFunction;
use unitring_routing::key::header_hash;
use unitring_routing::membership::{Identity, Member};
use unitring_routing::ring::Shape;
use unitring_routing::table::{Rule, Table};

#[test]
fn every_golden_table_gives_the_owners_that_envoy_gave() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut algorithms = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let golden: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let table = table(&golden);
        let owners = golden["owners"].as_object().unwrap();
        assert!(!owners.is_empty());
        for (key, expected) in owners {
            let hash = header_hash(&mut [key.as_bytes()]).unwrap();
            let owner = table.host(table.owner(hash).unwrap()).unwrap();
            assert_eq!(owner.address, *expected, "{key} in {}", path.display());
        }
        algorithms.push(golden["ring"]["algorithm"].as_str().unwrap().to_owned());
    }
    algorithms.sort();
    algorithms.dedup();
    assert_eq!(algorithms, ["maglev", "ring_hash"], "all of them are there");
}

/// All Envoys of a fleet, whatever their version, send a key with a full owner to the same
/// instances.
#[test]
fn every_key_overflows_as_it_did_when_it_was_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/overflow");
    for name in ["ring_hash_weights", "maglev"] {
        let path = folder.join(format!("{name}.json"));
        let mut golden: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let table = table(&golden);
        let keys = (0..OVERFLOW_KEYS).map(|number| format!("user-{number}"));
        let now: Map<String, Value> = keys
            .map(|key| (key.clone(), overflow(&table, &key).into()))
            .collect();
        if env::var_os("UNITRING_WRITE_GOLDEN").is_some_and(|value| value == "1") {
            golden["overflow"] = json!(now);
            fs::write(&path, serde_json::to_string_pretty(&golden).unwrap() + "\n").unwrap();
        }
        for (key, now) in &now {
            assert_eq!(*now, golden["overflow"][key], "{key} in {}", path.display());
        }
    }
}

const OVERFLOW_KEYS: usize = 50;

/// The instances that the steering header names while none is full, while the first of them is, and
/// so on to all.
fn overflow(table: &Table, key: &str) -> Vec<String> {
    let hash = header_hash(&mut [key.as_bytes()]).unwrap();
    let bound = Bound {
        max_in_flight: FULL.try_into().ok(),
        ..Bound::default()
    };
    let mut full = vec![0; table.hosts().len()];
    let mut lines = Vec::new();
    for _ in 0..=full.len() {
        let loads = Fleet(RefCell::new(full.clone()));
        let choice = table.choose(hash, 3, &bound, &loads).unwrap();
        let candidates = choice.candidates.as_slice().iter();
        let addresses = candidates.map(|host| table.host(*host).unwrap().address.as_str());
        let addresses: Vec<&str> = addresses.collect();
        lines.push(format!(
            "{}: {}",
            choice.reason.as_str(),
            addresses.join(",")
        ));
        full[choice.candidates.first().get()] = FULL;
    }
    lines
}

/// In flight on a full instance.
const FULL: u64 = 10;

struct Fleet(RefCell<Vec<u64>>);

impl Loads for Fleet {
    fn take(&self, host: usize) {
        self.0.borrow_mut()[host] += 1;
    }
    fn give_back(&self, host: usize) {
        self.0.borrow_mut()[host] -= 1;
    }
    fn in_flight(&self, host: usize) -> u64 {
        self.0.borrow()[host]
    }
    fn estimate(&self, host: usize) -> u64 {
        self.in_flight(host)
    }
    fn total(&self) -> u64 {
        self.0.borrow().iter().sum()
    }
}

fn table(golden: &Value) -> Table {
    let ring = &golden["ring"];
    let number = |field: &str| ring[field].as_u64().unwrap();
    let shape = match ring["algorithm"].as_str().unwrap() {
        "maglev" => Shape::Maglev {
            table_size: u32::try_from(number("table_size"))
                .unwrap()
                .try_into()
                .unwrap(),
        },
        "ring_hash" => Shape::Envoy {
            hash: match ring["hash"].as_str().unwrap() {
                "xx_hash" => HashFunction::XxHash64,
                "murmur_hash_2" => HashFunction::Murmur2,
                other => panic!("{other}"),
            },
            min_size: number("min_size"),
            max_size: number("max_size"),
        },
        other => panic!("{other}"),
    };
    let member = |host: &Value| {
        let address = host["address"].as_str().unwrap().to_owned();
        let weight = u32::try_from(host["weight"].as_u64().unwrap()).unwrap();
        Member {
            weight: weight.try_into().unwrap(),
            ..Member::new(&address, &address)
        }
    };
    let hosts = golden["hosts"].as_array().unwrap();
    let members: Vec<Member> = hosts.iter().map(member).collect();
    Table::build(&members, Rule::new(shape, Identity::Address)).unwrap()
}
