//! Files that are no bootstraps, and settings in every form that Envoy takes.

use super::*;

/// The codes that the tests here seed.
pub(super) const SEEDED: [Code; 2] = [Code::NotABootstrap, Code::Unseen];

#[test]
fn what_is_no_bootstrap_says_why() {
    for (text, why) in [
        ("", "no bootstrap: must be an object"),
        ("a: [1", "neither YAML nor JSON"),
        ("a: 1\na: 2: 3", "neither YAML nor JSON"),
        ("[]", "no bootstrap: must be an object"),
        ("services: {}", "no bootstrap: has none of"),
        ("static_resources: []", "static_resources must be an object"),
        (
            "static_resources: { clusters: {} }",
            "static_resources.clusters must be a list",
        ),
        ("\u{0}\u{fffd}", "neither YAML nor JSON"),
        // A laugh of a billion.
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]\ng: [*f, *f, *f, *f, *f, *f, *f, *f, *f]",
            "neither YAML nor JSON",
        ),
    ] {
        let error = envoy::read(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn what_is_nested_without_end_is_refused() {
    let deep = format!("admin: {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(envoy::read(&deep).is_err());
}

#[test]
fn settings_are_read_in_every_form() {
    let text = r#"{"service": "orders", "key": [{"header": "x-user"}]}"#;
    let json = json!({"service": "orders", "key": [{"header": "x-user"}]});
    for (kind, value) in [
        ("google.protobuf.StringValue", json!(text)),
        ("google.protobuf.Struct", json.clone()),
        ("xds.type.v3.TypedStruct", json),
    ] {
        let mut config = shipped("envoy.yaml");
        let any = json!({"@type": format!("type.googleapis.com/{kind}"), "value": value});
        set(&mut config, &wasm(), "configuration", any);
        // They are read: the key is another one than the route's.
        assert_eq!(
            codes(&found(&config)),
            BTreeSet::from([Code::HashPolicy]),
            "{kind}"
        );
    }
}

#[test]
fn settings_that_are_none_are_refused() {
    for (any, why) in [
        (
            json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "service: orders"}),
            "must be JSON",
        ),
        (
            json!({"@type": "type.googleapis.com/google.protobuf.Int32Value", "value": 1}),
            "is a Int32Value",
        ),
        (json!({"service": "orders"}), "there are no settings"),
        (
            json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}),
            "service = null: is required",
        ),
        (
            json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"services": []}}),
            "must have 1 to 64",
        ),
    ] {
        let mut config = shipped("envoy.yaml");
        set(&mut config, &wasm(), "configuration", any.clone());
        let found = found(&config);
        assert_eq!(
            codes(&found),
            BTreeSet::from([Code::SettingsRefused]),
            "{any}"
        );
        assert!(found[0].seen.contains(why), "{found:?}");
    }
}

#[test]
fn a_filter_that_comes_later_is_said_to_be_unseen() {
    let mut config = shipped("envoy.yaml");
    let filter = format!("{MANAGER}/http_filters/0");
    unset(&mut config, &filter, "typed_config");
    set(&mut config, &filter, "config_discovery", json!({}));
    let found = found(&config);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].seen, "the http filter unitring comes by ECDS");
}

#[test]
fn another_wasm_filter_is_none_of_ours() {
    let mut config = shipped("envoy.yaml");
    let other = json!({"name": "auth", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {"vm_config": {"code": {"local": {"filename": "auth.wasm"}}}},
    }});
    let filters = config
        .pointer_mut(&format!("{MANAGER}/http_filters"))
        .unwrap();
    filters.as_array_mut().unwrap().insert(0, other);
    assert_eq!(found(&config), []);
}

#[test]
fn each_service_of_a_filter_is_looked_at_and_one_alone_if_asked() {
    let mut config = shipped("envoy.yaml");
    let value = json!({"services": [{"service": "orders"}, {"service": "carts"}], "companion": {}});
    set(
        &mut config,
        &wasm(),
        "configuration",
        json!({
            "@type": "type.googleapis.com/google.protobuf.Struct", "value": value,
        }),
    );
    let all = found(&config);
    assert_eq!(codes(&all), BTreeSet::from([Code::NoService]));
    let envoy = envoy::read(&config.to_string()).unwrap();
    assert_eq!(of_envoy("", &envoy, Some("orders")), []);
    assert_eq!(
        codes(&of_envoy("", &envoy, Some("carts"))),
        BTreeSet::from([Code::NoService])
    );
    assert_eq!(
        codes(&of_envoy("", &envoy, Some("tea"))),
        BTreeSet::from([Code::NothingPlaced])
    );
    let names: Vec<String> = known(&envoy, None)
        .into_iter()
        .map(|known| known.service)
        .collect();
    assert_eq!(names, ["orders", "carts"]);
}

#[test]
fn two_filters_of_one_service_tell_of_its_cluster_once() {
    let mut config = shipped("envoy.yaml");
    let mut second = config
        .pointer("/static_resources/listeners/0")
        .unwrap()
        .clone();
    second["name"] = json!("second");
    let listeners = config.pointer_mut("/static_resources/listeners").unwrap();
    listeners.as_array_mut().unwrap().push(second);
    unset(&mut config, ORDERS, "circuit_breakers");
    let found = found(&config);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn names_in_the_other_spelling_of_protobuf_are_the_same() {
    let text = serde_json::to_string(&shipped("envoy.yaml")).unwrap();
    let text = text
        .replace("\"circuit_breakers\"", "\"circuitBreakers\"")
        .replace("\"retry_budget\"", "\"retryBudget\"");
    let envoy = envoy::read(&text).unwrap();
    assert_eq!(of_envoy("", &envoy, None), []);
}

#[test]
fn nothing_that_is_shown_moves_the_cursor_or_adds_a_line() {
    let mut config = shipped("envoy.yaml");
    let name = "a\u{1b}[2J\r\nwarn UR0000\u{202e}";
    set(
        &mut config,
        "/static_resources/listeners/0",
        "name",
        json!(name),
    );
    set(
        &mut config,
        &format!("{}/retry_policy", route()),
        "num_retries",
        json!(5),
    );
    let finding = &found(&config)[0];
    assert!(
        finding
            .path
            .starts_with("listener a [2J  warn UR0000 , virtual"),
        "{finding:?}"
    );
}
