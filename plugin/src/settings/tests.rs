//! What is accepted, what is refused, and with which words.

use super::*;
use proptest::prelude::*;

fn error(json: &str) -> String {
    Settings::parse(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn only_the_service_is_required_and_the_defaults_are_those_of_the_documentation() {
    let settings = Settings::parse(br#"{"service": "orders"}"#).unwrap();
    assert_eq!(settings.service.as_str(), "orders");
    assert_eq!(
        settings.key,
        [KeySource {
            header: "x-user-id".into(),
            terminal: false
        }]
    );
    assert_eq!(
        settings.shape,
        Shape::Envoy {
            min_size: 1024,
            max_size: 8_388_608
        }
    );
    let bound = settings.load.bound.unwrap();
    assert_eq!((bound.balance_factor.get(), bound.min_capacity), (125, 16));
    assert_eq!(settings.load.scope, Scope::Fleet);
    assert_eq!(settings.load.threshold, None);
    assert_eq!(
        settings.discovery.source,
        Source::Admin {
            cluster: "envoy_admin".into()
        }
    );
    assert_eq!(settings.companion.unwrap().cluster, "unitring");
    assert_eq!(
        settings.steer,
        Steer {
            header: "x-unitring-host".into(),
            candidates: 3
        }
    );
    assert!(!settings.explain);
}

#[test]
fn numbers_may_come_as_the_doubles_of_a_protobuf_struct() {
    let json = br#"{"service": "orders", "load": {"balance_factor": 150.0, "min_capacity": 0.0}}"#;
    let bound = Settings::parse(json).unwrap().load.bound.unwrap();
    assert_eq!((bound.balance_factor.get(), bound.min_capacity), (150, 0));
}

#[test]
fn a_refusal_names_path_value_and_rule() {
    for (json, expected) in [
        ("[]", " = []: must be an object"),
        ("{}", "service = null: is required: the name of a cluster"),
        (
            r#"{"service": "a b"}"#,
            "service = \"a b\": must be 1 to 128 letters",
        ),
        (
            r#"{"service": "a", "x": 1}"#,
            "x = 1: unknown field, expected one of services, service,",
        ),
        (
            r#"{"service": "a", "ring": {"fil": "fixed"}}"#,
            "ring.fil = \"fixed\": unknown field",
        ),
        (
            r#"{"service": "a", "load": {"balance_factor": 50}}"#,
            "load.balance_factor = 50: must be 0 (no bound) or a whole number from 100 to 100000",
        ),
        (
            r#"{"service": "a", "load": {"min_capacity": 1.5}}"#,
            "load.min_capacity = 1.5: must be a whole number from 0 to 1000000",
        ),
        (
            r#"{"service": "a", "load": {"stale_after": "5"}}"#,
            "load.stale_after = \"5\": must be a duration from 50ms to 600s",
        ),
        (
            r#"{"service": "a", "ring": {"min_size": 9, "max_size": 8}}"#,
            "ring.min_size = 9: must be a whole number from 1 to 8",
        ),
        (
            r#"{"service": "a", "key": [{"header": "a"}, {"header": "b c"}]}"#,
            "key[1].header = \"b c\": must be a header name",
        ),
        (
            r#"{"service": "a", "key": []}"#,
            "key = 0: must have 1 to 16 sources",
        ),
        (
            r#"{"service": "a", "discovery": {"source": "static", "instances": [{"address": "h:1"}]}}"#,
            "discovery.instances[0].address = \"h:1\": must be ip:port",
        ),
        (
            r#"{"service": "a", "discovery": {"source": "static"}}"#,
            "discovery.instances = []: must not be empty with source static",
        ),
        (
            r#"{"service": "a", "discovery": {"source": "static", "instances":
                [{"address": "10.0.0.1:1"}, {"address": "10.0.0.1:1"}]}}"#,
            "discovery.instances = \"10.0.0.1:1\": must not name an instance twice",
        ),
        (
            r#"{"service": "a", "steer": {"candidates": 9}}"#,
            "steer.candidates = 9: must be",
        ),
    ] {
        let error = error(json);
        assert!(
            error.starts_with(expected),
            "{json}\n  gave     {error}\n  expected {expected}"
        );
    }
    assert!(error("{").contains("must be JSON"));
}

#[test]
fn what_has_no_meaning_yet_is_refused_and_not_ignored() {
    for (section, path) in [
        (r#""key": [{"cookie": "sid"}]"#, "key[0].cookie"),
        (r#""key": [{"source_ip": true}]"#, "key[0].source_ip"),
        (r#""ring": {"algorithm": "maglev"}"#, "ring.algorithm"),
        (r#""ring": {"hash": "murmur_hash_2"}"#, "ring.hash"),
        (r#""ring": {"identity": "id"}"#, "ring.identity"),
        (r#""load": {"max_in_flight": 10}"#, "load.max_in_flight"),
        (r#""ejection": {"base": "5s"}"#, "ejection"),
        (
            r#""discovery": {"source": "companion"}"#,
            "discovery.source",
        ),
        (r#""capture": {"mode": "sync"}"#, "capture.mode"),
        (r#""services": []"#, "services"),
    ] {
        let error = error(&format!(r#"{{"service": "a", {section}}}"#));
        assert!(
            error.starts_with(path) && error.ends_with("is not supported yet"),
            "{error}"
        );
    }
}

#[test]
fn a_token_never_appears_in_an_error() {
    let error = error(r#"{"service": "a", "companion": {"token": "sécret"}}"#);
    assert!(!error.contains("cret"), "{error}");
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes: Vec<u8>) {
        drop(Settings::parse(&bytes));
    }

    #[test]
    fn parsing_something_like_settings_never_panics(
        field in "(service|key|ring|load|discovery|companion|steer|capture|explain)",
        inner in "(header|fill|min_size|balance_factor|instances|interval|candidates|mode)",
        value in r#"(-?[0-9]{1,25}(\.[0-9]{1,3})?|"[^"\\\p{C}]{0,9}"|\[\]|\{\}|null|true|1e308)"#,
    ) {
        drop(Settings::parse(
            format!(r#"{{"service": "a", "{field}": {{"{inner}": {value}}}}}"#).as_bytes(),
        ));
        drop(Settings::parse(format!(r#"{{"service": "a", "{field}": {value}}}"#).as_bytes()));
    }
}
