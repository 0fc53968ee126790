//! Each finding, seeded: a shipped file with one thing broken has that finding and no other.

mod answers;
mod broken;
mod garbage;
mod page;
mod probes;
mod seeds;
mod views;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const ORDERS: &str = "/static_resources/clusters/0";

/// A file of `envoy/`.
fn shipped(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../envoy")
        .join(name);
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

/// The findings of a bootstrap.
fn found(json: &Value) -> Vec<Finding> {
    let envoy = envoy::read(&json.to_string()).unwrap();
    of_envoy("envoy.yaml", &envoy, None)
}

/// The codes of findings, but for what a file cannot show.
fn codes(found: &[Finding]) -> BTreeSet<Code> {
    let codes = found.iter().map(|finding| finding.code);
    codes.filter(|code| *code != Code::Unseen).collect()
}

/// Sets a field of an object, whose place is a pointer.
fn set(json: &mut Value, object: &str, field: &str, value: Value) {
    let object = json
        .pointer_mut(object)
        .unwrap_or_else(|| panic!("no {object}"));
    object
        .as_object_mut()
        .unwrap()
        .insert(field.to_owned(), value);
}

/// Removes a field, which must be there.
fn unset(json: &mut Value, object: &str, field: &str) {
    let object = json
        .pointer_mut(object)
        .unwrap_or_else(|| panic!("no {object}"));
    let removed = object.as_object_mut().unwrap().remove(field);
    assert!(removed.is_some(), "no {field}");
}

fn host() -> String {
    format!("{MANAGER}/route_config/virtual_hosts/0")
}

fn route() -> String {
    format!("{}/routes/0/route", host())
}

fn wasm() -> String {
    format!("{MANAGER}/http_filters/0/typed_config/config")
}

fn settings() -> String {
    format!("{}/configuration/value", wasm())
}

#[test]
fn the_shipped_files_have_no_finding() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy");
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let mut read = 0;
    for name in names.filter(|name| name.ends_with(".yaml")) {
        let found = found(&shipped(&name));
        assert_eq!(codes(&found), BTreeSet::new(), "{name}: {found:#?}");
        read += 1;
    }
    assert!(read >= 8, "{read}");
}

#[test]
fn each_code_is_seeded_somewhere() {
    // `tests/tests/it/commands/doctor.rs` needs a server for these.
    let elsewhere = [Code::NoAdmin, Code::Hidden, Code::NoCompanion];
    let seeded: BTreeSet<Code> = seeds::all()
        .map(|seed| seed.code)
        .chain(answers::seeds().map(|(code, ..)| code))
        .chain(probes::SEEDED)
        .chain(broken::SEEDED)
        .chain(elsewhere)
        .collect();
    let all: BTreeSet<Code> = Code::ALL.iter().copied().collect();
    assert_eq!(seeded, all);
}
