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
fn the_log_is_a_filter_alone_or_a_table_with_a_form() {
    let log = |text: &str| settings(text).unwrap().log;
    let of = |filter: &str, format| LogSettings {
        filter: filter.to_owned(),
        format,
    };
    assert_eq!(log(""), of("info", LogFormat::Text));
    assert_eq!(log("log = \"warn\""), of("warn", LogFormat::Text));
    assert_eq!(log("log.format = \"json\""), of("info", LogFormat::Json));
    let table = "[log]\nfilter = \"warn\"\nformat = \"json\"";
    assert_eq!(log(table), of("warn", LogFormat::Json));
    // The printed settings parse to the same settings.
    let printed = settings(table).unwrap().to_string();
    assert_eq!(log(&printed), of("warn", LogFormat::Json), "{printed}");
    // A flag or the environment goes over either.
    let mut raw = Raw::parse(Path::new("u.toml"), table).unwrap();
    raw.set("log", "debug");
    assert_eq!(
        Settings::try_from(raw).unwrap().log,
        of("debug", LogFormat::Json)
    );
}

#[test]
fn nothing_is_traced_unless_a_collector_is_named() {
    let trace = |text: &str| settings(text).unwrap().trace;
    assert_eq!(trace(""), None);
    let of = |otlp: &str, sample| {
        let otlp = Url::new(otlp);
        let tls_ca = None;
        Some(TraceSettings {
            otlp,
            sample,
            tls_ca,
        })
    };
    let text = "trace.otlp = \"http://127.0.0.1:4317\"";
    assert_eq!(trace(text), of("http://127.0.0.1:4317", 1.0));
    let table = "[trace]\notlp = \"https://collector\"\nsample = 0.05";
    assert_eq!(trace(table), of("https://collector", 0.05));
    let printed = settings(table).unwrap().to_string();
    assert_eq!(trace(&printed), of("https://collector", 0.05), "{printed}");
}

#[test]
fn a_bad_field_names_its_path_its_value_and_the_rule() {
    for (text, error) in [
        ("unit = \"a b\"", "unit: \"a b\": must be 1 to 64"),
        ("listen = \"here\"", "listen: \"here\": must be an ip:port"),
        (
            "\n\nunti = \"a\"",
            "u.toml, line 3: unti: unknown field; did you mean unit?",
        ),
        (
            "[store]\npath = \"x\"\n[sync]\npear = 1",
            "u.toml, line 4: sync.pear: unknown field; did you mean sync.peers?",
        ),
        (
            "colour = \"red\"",
            "u.toml, line 1: colour: unknown field; `unitring serve --help`",
        ),
        (
            "unit = \"a\"\n[sync]\n\"lingr\" = \"2ms\"",
            "u.toml, line 3: sync.lingr: unknown field; did you mean sync.linger?",
        ),
        (
            "unit = \"a\"\nsync = { lingr = \"2ms\" }",
            "u.toml, line 2: sync.lingr: unknown field; did you mean sync.linger?",
        ),
        (
            "unit = \"a\"\n'sync'.\"lingr\" = \"2ms\"",
            "u.toml, line 2: sync.lingr: unknown field; did you mean sync.linger?",
        ),
        (
            "unit = \"a\"\n\"un.ti\" = 1",
            "u.toml, line 2: un.ti: unknown field",
        ),
        (
            "unit = \"a\"\n[log]\nfiltr = \"warn\"",
            "u.toml, line 3: log.filtr: unknown field; did you mean log.filter?",
        ),
        ("log = \"verbose\"", "log: \"verbose\": must be a level"),
        ("[log]\nfilter = \"loud\"", "log: \"loud\": must be a level"),
        (
            "log.format = \"jsno\"",
            "log.format: \"jsno\": must be one of text, json; did you mean json?",
        ),
        (
            "log.fromat = \"json\"",
            "u.toml, line 1: log.fromat: unknown field; did you mean log.format?",
        ),
        (
            "trace.otlp = \"collector:4317\"",
            "trace.otlp: <redacted>: must start with one of http://, https://",
        ),
        (
            "trace.otlp = \"http://\"",
            "trace.otlp: <redacted>: must be a URL as http://127.0.0.1:4317",
        ),
        (
            "trace.otlp = \"https://me:s3cret@collector\"",
            "trace.otlp: <redacted>: must have no login; OTEL_EXPORTER_OTLP_HEADERS",
        ),
        (
            "trace.otlp = \"http://h:1\"\ntrace.sample = 1.5",
            "trace.sample: \"1.5\": must be a number from 0 to 1",
        ),
        (
            "trace.otlp = \"http://h:1\"\ntrace.sample = nan",
            "trace.sample: \"NaN\": must be a number from 0 to 1",
        ),
        (
            "trace.otlp = \"http://h:1\"\ntrace.tls_ca = \"ca.pem\"",
            "trace.tls_ca: \"ca.pem\": needs trace.otlp with https://",
        ),
        (
            "[trace]\nsample = 0.5",
            "trace.sample: \"0.5\": needs trace.otlp",
        ),
        (
            "trace.oltp = \"http://h:1\"",
            "u.toml, line 1: trace.oltp: unknown field; did you mean trace.otlp?",
        ),
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
        (
            "log = 2026-01-02",
            "u.toml, line 1: log: must be a text, a number, true, false or a list of texts",
        ),
        ("open_reads = 1", "open_reads: \"1\": must be true or false"),
        ("tls_cert = \"c.pem\"", "tls_cert: \"c.pem\": needs tls_key"),
        (
            "tls_client_ca = \"c.pem\"",
            "tls_client_ca: \"c.pem\": needs tls_cert and tls_key",
        ),
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
fn beyond_loopback_a_token_and_tls_are_needed_or_the_word_that_they_are_not() {
    for address in ["0.0.0.0:7001", "[::]:7001", "10.0.0.1:7001"] {
        for field in ["listen", "xds_listen"] {
            let text = format!("{field} = \"{address}\"");
            let refused = settings(&text).unwrap_err();
            let rule = "is beyond loopback, which needs a token (token or tokens_file) and TLS (tls_cert and tls_key); allow_insecure = true serves without";
            assert_eq!(refused, format!("{field}: {address:?}: {rule}"));
            let with = |more: &str| settings(&format!("{text}\n{more}"));
            assert!(with("token = \"t\"").unwrap_err().contains("needs TLS"));
            let tls = "tls_cert = \"c\"\ntls_key = \"k\"";
            assert!(with(tls).unwrap_err().contains("needs a token"));
            assert!(with("allow_insecure = true").is_ok());
            assert!(with(&format!("token = \"t\"\n{tls}")).is_ok());
            // A client with a certificate of this root is no stranger.
            assert!(with(&format!("tls_client_ca = \"r\"\n{tls}")).is_ok());
        }
    }
    for address in ["127.0.0.9:7001", "[::1]:7001", "[::ffff:127.0.0.1]:7001"] {
        assert!(
            settings(&format!("listen = \"{address}\"")).is_ok(),
            "{address}"
        );
    }
}

#[test]
fn no_error_shows_what_may_be_a_secret() {
    for text in [
        "token = \"s3cret token\"",
        "token = \" \"",
        "token = s3cret",
        "token = [\"s3cret\", 1]",
        "token = \"s3cret\" x",
        "token = \"\"\"s3cret",
        "tokne = \"s3cret\"",
        "[sync]\namqp_ulr = \"amqp://u:s3cret@h\"",
        "[store]\nredis_url = \"redis://:s3c/ret@h\"",
        "[store]\nredis_url = \"redis://u:1?s3cret@h\"",
        "[store]\nredis_url = \"redis://u:s3cret@h:port\"",
        "[group]\nservers = [\"redis://:s3/cret@a\", \"redis://b\"]",
        "[group]\nservers = [\"redis://:s3cret@a:b\"]",
        "[sync]\npeers = [\"west\"]\namqp_url = \"amqp://u:12/s3cret@h\"",
        "[sync]\npeers = [\"west\"]\namqp_url = \"amqp://u:s3cret@h:port/v\"",
        "[sync]\npeers = [\"west\"]\namqp_url = \"amqp://h\"\nbrokers = [\"west=amqp://u:s3?cret@h\"]",
    ] {
        let said = settings(text).unwrap_err();
        let parts = ["s3", "cret", "ret@"];
        assert!(
            !parts.iter().any(|part| said.contains(part)),
            "{text}: {said}"
        );
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
    let socket = "tokens = \"[a]\\ntoken = 's3cret'\"\n[store]\nredis_url = \"unix:///r.sock?db=1&pass=s3cret\"";
    let settings = self::settings(socket).unwrap();
    let shown = settings.to_string();
    assert!(shown.contains("unix:///r.sock?db=1&pass=***"), "{shown}");
    assert!(!shown.contains("s3cret") && !format!("{settings:?}").contains("s3cret"));
}

#[test]
fn a_later_word_wins() {
    let mut raw = Raw::parse(Path::new("u.toml"), "unit = \"east\"").unwrap();
    raw.set("unit", "north");
    assert_eq!(Settings::try_from(raw).unwrap().unit.as_str(), "north");
}
