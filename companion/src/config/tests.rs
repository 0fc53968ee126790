use super::*;
use std::path::Path;

fn settings(text: &str) -> Result<Settings, String> {
    Raw::parse(Path::new("u.toml"), text)
        .and_then(Settings::try_from)
        .map_err(|error| error.to_string())
}

#[test]
fn nothing_said_is_one_unit_on_the_embedded_store() {
    let settings = settings("").unwrap();
    assert_eq!(settings.unit.as_str(), "local");
    assert_eq!(settings.sync, None);
    let path = PathBuf::from("unitring.redb");
    assert_eq!(settings.store, StoreSettings::Embedded { path });
}

#[test]
fn a_bad_field_names_its_path_its_value_and_the_rule() {
    for (text, error) in [
        ("unit = \"a b\"", "unit: \"a b\": must be 1 to 64"),
        ("listen = \"here\"", "listen: \"here\": must be an ip:port"),
        (
            "\n\nunti = \"a\"",
            "u.toml, line 3: unti: \"a\": unknown field; did you mean unit?",
        ),
        (
            "[store]\npath = \"x\"\n[sync]\npear = 1",
            "u.toml, line 4: sync.pear: \"1\": unknown field; did you mean sync.peers?",
        ),
        (
            "colour = \"red\"",
            "u.toml, line 1: colour: \"red\": unknown field; `unitring check`",
        ),
        ("log = \"verbose\"", "log: \"verbose\": must be a level"),
        (
            "[sync]\nlinger = \"1h\"",
            "sync.linger: \"1h\": must be a duration from 0ms to 1s, as \"2ms\"",
        ),
        (
            "[store]\nkind = \"sqlite\"",
            "store.kind: \"sqlite\": must be one of embedded, redis",
        ),
        (
            "[store]\nkind = \"redis\"",
            "store.kind: \"redis\": needs store.redis_url",
        ),
        (
            "[store]\nredis_url = \"http://x:pass@y\"",
            "store.redis_url: <redacted>: must start",
        ),
        (
            "[sync]\npeers = [\"west\"]",
            "sync.peers: \"west\": needs sync.amqp_url",
        ),
        (
            "[sync]\namqp_url = \"amqp://h\"",
            "sync.amqp_url: <redacted>: needs sync.peers",
        ),
        (
            "unit = \"west\"\n[sync]\namqp_url = \"amqp://h\"\npeers = [\"west\"]",
            "sync.peers: \"west\": must name the other units",
        ),
        (
            "[sync]\ndigest_interval = \"soon\"",
            "sync.digest_interval: \"soon\": must be a dur",
        ),
        (
            "[sync]\noutbox_max = 0",
            "sync.outbox_max: \"0\": must be a number",
        ),
        ("log = 1.5", "log: 1.5: must be a text"),
        (
            "[store]\nredis_url = \"redis-sentinel://:s3cret@a:1,b:2\"",
            "store.redis_url: <redacted>: must name the primary",
        ),
        (
            "[store]\nredis_url = \"rediss://a\"\ntls_key = \"k.pem\"",
            "store.tls_key: \"k.pem\": needs store.tls_cert",
        ),
    ] {
        let said = settings(text).unwrap_err();
        assert!(said.starts_with(error), "{text}: {said}");
    }
}

#[test]
fn redis_is_implied_by_its_url_and_no_output_shows_a_password() {
    let text = "token = \"s3cret\"\n[store]\nredis_url = \"redis://me:s3cret@h:1/2\"";
    let settings = settings(text).unwrap();
    assert!(matches!(settings.store, StoreSettings::Redis(_)));
    let shown = settings.to_string();
    assert!(shown.contains("redis://me:***@h:1/2"), "{shown}");
    assert!(!shown.contains("s3cret") && !format!("{settings:?}").contains("s3cret"));
}

#[test]
fn a_later_word_wins() {
    let mut raw = Raw::parse(Path::new("u.toml"), "unit = \"east\"").unwrap();
    raw.set("unit", "north");
    assert_eq!(Settings::try_from(raw).unwrap().unit.as_str(), "north");
}
