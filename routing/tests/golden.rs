//! Invariant 1 without an Envoy: its choices as they were recorded (`golden/README.md` says how).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use serde_json::Value;
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
