//! Which settings are accepted, which are refused, and the words of the refusal.

use super::*;
use crate::capture::queue::Bounds;
use proptest::prelude::*;
use unitring_routing::hash::HashFunction;
use unitring_routing::membership::Identity;
use unitring_routing::ring::Shape;

fn error(json: &str) -> String {
    Services::parse(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn only_the_service_is_required_and_the_defaults_are_those_of_the_documentation() {
    let settings = Settings::of(r#"{"service": "orders"}"#);
    assert_eq!(settings.service.as_str(), "orders");
    assert_eq!(
        settings.key,
        [KeySource {
            from: KeyFrom::Header("x-user-id".into()),
            terminal: false
        }]
    );
    assert_eq!(
        settings.rule.shape,
        Shape::Envoy {
            hash: HashFunction::XxHash64,
            min_size: 1024,
            max_size: 8_388_608
        }
    );
    assert_eq!(settings.rule.identity, Identity::Address);
    assert_eq!((settings.ring, settings.health), Default::default());
    assert_eq!(settings.stat_name, "orders");
    assert!(!settings.reads_answers());
    let bound = settings.load.bound;
    assert_eq!(bound.balance_factor.unwrap().get(), 125);
    assert_eq!((bound.min_capacity, bound.max_in_flight), (16, None));
    let ejection = settings.ejection.unwrap();
    assert_eq!(ejection.consecutive_failures.get(), 5);
    assert_eq!(ejection.base, Duration::from_secs(5));
    assert_eq!(ejection.max, Duration::from_secs(300));
    assert_eq!(ejection.max_percent, 50);
    assert_eq!(settings.slow_start, None);
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
            candidates: 3,
            attempts_in_response: false,
        }
    );
    assert!(!settings.explain && !settings.access_log);
}

#[test]
fn numbers_may_come_as_the_doubles_of_a_protobuf_struct() {
    let json = r#"{"service": "orders", "load": {"balance_factor": 150.0, "min_capacity": 0.0}}"#;
    let bound = Settings::of(json).load.bound;
    assert_eq!(bound.balance_factor.unwrap().get(), 150);
    assert_eq!(bound.min_capacity, 0);
}

#[test]
fn a_refusal_names_path_value_and_rule() {
    for (json, expected) in [
        ("[]", " = []: must be an object"),
        ("{}", "service = null: is required: the name of a cluster"),
        (
            r#"{"service": "a\nb"}"#,
            "service = \"a\\nb\": must be 1 to 512 bytes of text",
        ),
        (
            r#"{"service": "a", "companion": {"cluster": ""}, "discovery": {"source": "companion"}}"#,
            "discovery.source = \"companion\": needs companion.cluster",
        ),
        (
            r#"{"service": "a", "x": 1}"#,
            "x = 1: unknown field, expected one of services, companion, service,",
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
            "load.stale_after = \"5\": must be a duration from 1s to 600s",
        ),
        (
            // Of two errors, the first is returned.
            r#"{"service": "a", "discovery": {"interval": 5, "cluster": ""}}"#,
            "discovery.interval = 5: must be a duration",
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
            r#"{"service": "a", "companion": {"interval": "10s"}, "load": {"stale_after": "5s"}}"#,
            "load.stale_after = \"5s\": must be a duration from 10s to 600s",
        ),
        (
            r#"{"service": "a", "key": [{"header": "a", "cookie": "b"}]}"#,
            "key[0] = 2: must have exactly one of header, cookie, query, source_ip, path",
        ),
        (
            r#"{"service": "a", "key": [{"source_ip": false}]}"#,
            "key[0].source_ip = false: must be true or absent",
        ),
        (
            r#"{"service": "a", "key": [{"query": "a&b"}]}"#,
            "key[0].query = \"a&b\": must be a parameter name",
        ),
        (
            r#"{"service": "a", "ring": {"algorithm": "maglev", "min_size": 8}}"#,
            "ring.min_size = 8: has no effect with algorithm maglev",
        ),
        (
            r#"{"service": "a", "ring": {"table_size": 17}}"#,
            "ring.table_size = 17: applies to algorithm maglev only",
        ),
        (
            r#"{"service": "a", "ring": {"algorithm": "maglev", "table_size": 65536}}"#,
            "ring.table_size = 65536: must be a prime number",
        ),
        (
            r#"{"service": "a", "ejection": {"base": "10s", "max": "5s"}}"#,
            "ejection.max = \"5s\": must be a duration from 10s",
        ),
        (
            r#"{"service": "a", "alias": "a.b"}"#,
            "alias = \"a.b\": must be 1 to 100 letters",
        ),
        (
            r#"{"service": "a", "key": [{"header": "X-Unitring-Key"}]}"#,
            "key[0].header = \"X-Unitring-Key\": must not begin with x-unitring-",
        ),
        (
            r#"{"service": "a", "key": [{"header": "x-a"}], "steer": {"header": "X-A"}}"#,
            "steer.header = \"x-a\": must not be a source of the key",
        ),
        (
            r#"{"service": "a", "health": {"panic_threshold": 101}}"#,
            "health.panic_threshold = 101: must be a whole number from 0 to 100",
        ),
        (
            r#"{"service": "a", "steer": {"candidates": 9}}"#,
            "steer.candidates = 9: must be",
        ),
        (
            r#"{"service": "a", "access_log": {"format": "json"}}"#,
            "access_log = {\"format\":\"json\"}: must be true or false",
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
fn updates_are_captured_as_each_service_says() {
    let capture = |json: &str| Settings::of(json).capture;
    let usual = capture(r#"{"service": "a"}"#);
    let expected = Capture {
        mode: CaptureMode::Off,
        body_bytes_max: 65_536,
        queue: Bounds {
            updates: 4_096,
            bytes: 8 << 20,
        },
        timeout: Duration::from_secs(2),
    };
    assert_eq!(usual, expected);
    let all = Services::parse(
        br#"{"capture": {"mode": "async"}, "services": [{"service": "a"},
            {"service": "b", "capture": {"mode": "sync", "timeout": "500ms"}}]}"#,
    );
    let modes: Vec<_> = all
        .unwrap()
        .all
        .iter()
        .map(|one| one.capture.mode)
        .collect();
    assert_eq!(modes, [CaptureMode::Async, CaptureMode::Sync]);
    for (json, expected) in [
        (
            r#"{"service": "a", "capture": {"mode": "later"}}"#,
            "capture.mode = \"later\": must be one of off, count, async, sync",
        ),
        (
            r#"{"service": "a", "discovery": {"source": "admin"}, "companion": {"cluster": ""}, "capture": {"mode": "sync"}}"#,
            "capture.mode = \"sync\": needs a companion",
        ),
        (
            r#"{"service": "a", "capture": {"body_bytes_max": 1048577}}"#,
            "capture.body_bytes_max = 1048577: must be a whole number from 0 to 1048576",
        ),
        (
            r#"{"service": "a", "capture": {"body_bytes_max": 65537, "queue_bytes_max": 65536}}"#,
            "capture.body_bytes_max = 65537: must be at most capture.queue_bytes_max",
        ),
    ] {
        let error = error(json);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn an_update_may_weigh_thousandths_of_a_request() {
    let weight = |number: &str| {
        let json = format!(r#"{{"service": "a", "load": {{"update_weight": {number}}}}}"#);
        Services::parse(json.as_bytes()).map(|all| all.all[0].load.update_weight)
    };
    for (number, thousandths) in [
        ("0", 0),
        ("1", 1_000),
        ("0.29", 290),
        ("0.001", 1),
        ("1e3", 1_000_000),
    ] {
        assert_eq!(weight(number), Ok(thousandths), "{number}");
    }
    for bad in ["-1", "1001", "0.0001", "1000.001", "\"1\"", "1e300"] {
        let error = weight(bad).unwrap_err().to_string();
        assert!(
            error.ends_with("must be a number from 0 to 1000 with at most three decimals"),
            "{error}"
        );
    }
}

#[test]
fn every_kind_of_ring_and_key_can_be_asked_for() {
    let settings = Settings::of(
        r#"{"service": "a",
        "key": [{"cookie": "sid"}, {"query": "user"}, {"source_ip": true},
            {"path": true, "terminal": true}, {"header": "Host"}],
        "ring": {"hash": "murmur_hash_2", "fill": "fixed", "virtual_nodes": 7, "identity": "id"},
        "load": {"balance_factor": 0, "max_in_flight": 9},
        "ejection": {"consecutive_failures": 0}, "slow_start": {"window": "30s"}}"#,
    );
    let from: Vec<_> = settings.key.iter().map(|source| &source.from).collect();
    assert_eq!(from[0], &KeyFrom::Cookie("sid".into()));
    assert_eq!(from[1], &KeyFrom::Query("user".into()));
    assert_eq!(from[2], &KeyFrom::SourceIp);
    assert_eq!(from[3], &KeyFrom::Header(":path".into()));
    assert_eq!(from[4], &KeyFrom::Header(":authority".into()));
    assert!(settings.key[3].terminal);
    assert!(matches!(
        settings.rule.shape,
        Shape::Fixed {
            hash: HashFunction::Murmur2,
            ..
        }
    ));
    assert_eq!(settings.rule.identity, Identity::Id);
    assert_eq!(settings.load.bound.max_in_flight.unwrap().get(), 9);
    assert_eq!(settings.ejection, None);
    assert_eq!(settings.slow_start.unwrap().start.percent(), 10);
    let maglev = Settings::of(r#"{"service": "a", "ring": {"algorithm": "maglev"}}"#);
    let Shape::Maglev { table_size } = maglev.rule.shape else {
        panic!("{:?}", maglev.rule.shape);
    };
    assert_eq!(table_size.get(), 65_537);
}

#[test]
fn services_have_sections_of_their_own_or_those_beside_them() {
    let services = Services::parse(
        br#"{"load": {"min_capacity": 3}, "explain": true, "access_log": true, "services": [
            {"service": "a"}, {"service": "b", "load": {"min_capacity": 7}}]}"#,
    )
    .unwrap();
    assert!(services.by_route);
    let capacities: Vec<_> = services
        .all
        .iter()
        .map(|settings| (settings.service.as_str(), settings.load.bound.min_capacity))
        .collect();
    assert_eq!(capacities, [("a", 3), ("b", 7)]);
    let told = |settings: &Settings| settings.explain && settings.access_log;
    assert!(services.all.iter().all(told));
    let one = Services::parse(br#"{"service": "a"}"#).unwrap();
    assert!(!one.by_route);
}

#[test]
fn a_refusal_among_services_names_the_place_where_the_value_stands() {
    for (json, expected) in [
        (
            r#"{"services": []}"#,
            "services = 0: must have 1 to 64 entries",
        ),
        (
            r#"{"services": [{"service": "a"}], "service": "b"}"#,
            "service = \"b\": must be absent",
        ),
        (
            r#"{"services": [{"service": "a"}, {"load": {}}]}"#,
            "services[1].service = null: is required",
        ),
        (
            r#"{"services": [{"service": "a"}, {"service": "a"}]}"#,
            "services[1].service = \"a\": must not be in two entries",
        ),
        (
            r#"{"services": [{"service": "a", "load": {"x": 1}}]}"#,
            "services[0].load.x = 1: unknown field",
        ),
        (
            r#"{"services": [{"service": "a", "y": 1}]}"#,
            "services[0].y = 1: unknown field",
        ),
        (
            r#"{"services": [{"service": "a"}], "load": {"x": 1}}"#,
            "load.x = 1: unknown field",
        ),
        (
            r#"{"services": [{"service": "a"}], "z": 1}"#,
            "z = 1: unknown field",
        ),
        (
            r#"{"services": [{"service": "a", "companion": {}}]}"#,
            "services[0].companion = {}: must be set beside services",
        ),
    ] {
        let error = error(json);
        assert!(
            error.starts_with(expected),
            "{json}\n  gave     {error}\n  expected {expected}"
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
        drop(Services::parse(&bytes));
    }

    #[test]
    fn parsing_something_like_settings_never_panics(
        field in "(service|services|key|ring|load|ejection|slow_start|discovery|companion|steer|capture|explain|access_log)",
        inner in "(header|fill|min_size|balance_factor|instances|interval|candidates|mode)",
        value in r#"(-?[0-9]{1,25}(\.[0-9]{1,3})?|"[^"\\\p{C}]{0,9}"|\[\]|\{\}|null|true|1e308)"#,
    ) {
        drop(Services::parse(
            format!(r#"{{"service": "a", "{field}": {{"{inner}": {value}}}}}"#).as_bytes(),
        ));
        drop(Services::parse(format!(r#"{{"service": "a", "{field}": {value}}}"#).as_bytes()));
    }
}
