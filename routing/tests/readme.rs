//! The pages show where the key `ada` goes over the four instances of the demo. The test that runs their commands uses
//! other ports, so it compares the form of these values; this one compares the values.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use unitring_routing::bounded::{Bound, Loads};
use unitring_routing::hash::HashFunction;
use unitring_routing::key::header_hash;
use unitring_routing::membership::{Identity, Member};
use unitring_routing::ring::Shape;
use unitring_routing::table::{Rule, Table};

/// Candidates that the filter names by default.
const WANTED: usize = 3;

/// No request is in flight.
struct Idle;

impl Loads for Idle {
    fn take(&self, _: usize) {}
    fn give_back(&self, _: usize) {}
    fn in_flight(&self, _: usize) -> u64 {
        0
    }
    fn estimate(&self, _: usize) -> u64 {
        0
    }
    fn total(&self) -> u64 {
        0
    }
}

/// The instances on the ports of `envoy/envoy.yaml`, on the ring of its cluster.
fn table() -> Table {
    let members = (8081..=8084).map(|port| {
        let address = format!("127.0.0.1:{port}");
        Member::new(&address, &address)
    });
    let members: Vec<Member> = members.collect();
    let shape = Shape::Envoy {
        hash: HashFunction::XxHash64,
        min_size: 1_024,
        max_size: 8_388_608,
    };
    Table::build(&members, Rule::new(shape, Identity::Address)).unwrap()
}

/// What follows this text in the lines of a page.
fn shown(page: &str, before: &str) -> Vec<String> {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let text = fs::read_to_string(text).unwrap();
    let rest = text.lines().filter_map(|line| line.split_once(before));
    let ends = |letter: char| !letter.is_ascii_alphanumeric() && !".:,".contains(letter);
    let value = |(_, rest): (&str, &str)| rest.split(ends).next().map(str::to_owned);
    let values: Vec<String> = rest.filter_map(value).collect();
    assert!(!values.is_empty(), "{page} shows no {before:?}");
    values
}

#[test]
fn the_pages_show_where_their_key_goes() {
    let table = table();
    let hash = header_hash(&mut [b"ada"]).unwrap();
    let choice = table
        .choose(hash, WANTED, &Bound::default(), &Idle)
        .unwrap();
    let candidates = choice.candidates.as_slice().iter();
    let candidates = candidates.map(|host| table.host(*host).unwrap().address.clone());
    let candidates: Vec<String> = candidates.collect();
    let owner = candidates.first().unwrap();
    assert_eq!(choice.reason.as_str(), "primary");

    for page in ["README.md", "envoy/README.md"] {
        for (before, value) in [
            ("x-unitring-instance: ", owner),
            ("x-unitring-ring: ", &table.version()),
        ] {
            for shown in shown(page, before) {
                assert_eq!(shown, *value, "{before} in {page}");
            }
        }
    }
    let readme = |before: &str| shown("README.md", before);
    assert_eq!(readme("hash       "), [format!("{hash:016x}")]);
    assert_eq!(readme("owner      "), [owner.as_str()]);
    assert_eq!(readme("ring       "), [table.version()]);
    assert_eq!(readme("candidate  "), candidates);
    let header = r#""x-unitring-host":[""#;
    assert_eq!(readme(header), [candidates.join(",")]);
}
