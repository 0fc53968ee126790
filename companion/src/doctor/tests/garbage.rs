//! No JSON makes a rule panic.

use proptest::prelude::*;

use super::*;

/// Any JSON, with names that the rules look for.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("orders".to_owned()),
        Just("unitring".to_owned()),
        Just("type.googleapis.com/google.protobuf.Struct".to_owned()),
        Just("127.0.0.1".to_owned()),
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let name = prop_oneof![
            prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned),
            ".{0,8}",
        ];
        let fields = prop::collection::vec((name, inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const NAMES: [&str; 30] = [
    "admin",
    "address",
    "socket_address",
    "port_value",
    "allow_paths",
    "static_resources",
    "dynamic_resources",
    "listeners",
    "clusters",
    "name",
    "type",
    "filter_chains",
    "filters",
    "typed_config",
    "@type",
    "http_filters",
    "config",
    "configuration",
    "value",
    "route_config",
    "virtual_hosts",
    "routes",
    "route",
    "cluster",
    "hash_policy",
    "retry_policy",
    "circuit_breakers",
    "outlier_detection",
    "load_assignment",
    "load_balancing_policy",
];

/// Every place of a shipped file.
fn pointers(json: &Value, at: String, all: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{at}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (number, value) in items.iter().enumerate() {
                pointers(value, format!("{at}/{number}"), all);
            }
        }
        _ => {}
    }
    all.push(at);
}

fn look(json: &Value) {
    if let Ok(envoy) = envoy::read(&json.to_string()) {
        drop((of_envoy("", &envoy, None), known(&envoy, None)));
    }
    let dump = json!({"configs": [
        {"@type": "BootstrapConfigDump", "bootstrap": json},
        {"@type": "ClustersConfigDump", "static_clusters": [{"cluster": json}], "dynamic_active_clusters": json},
        {"@type": "ListenersConfigDump", "dynamic_listeners": json, "static_listeners": [{"listener": json}]},
        json,
    ]});
    let text = json.to_string();
    if let Ok(envoy) = envoy::running(dump.to_string().as_bytes(), Some(text.as_bytes())) {
        drop(of_envoy("", &envoy, Some("orders")));
    }
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(json in any_json()) {
        look(&json);
        let answers = Answers {
            ready: json.clone(),
            units: Ok(json.clone()),
            services: Ok(vec![json.clone()]),
            group: Some(json),
        };
        drop(of_companion("", &answers, &[], None));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        drop(envoy::read(&text));
        drop(envoy::running(text.as_bytes(), None));
    }

    #[test]
    fn no_place_of_a_shipped_file_must_have_its_form(
        file in prop::sample::select(vec!["envoy.yaml", "native.yaml", "tcp.yaml", "eds.yaml"]),
        place: prop::sample::Index,
        json in any_json(),
    ) {
        let mut config = shipped(file);
        let mut all = Vec::new();
        pointers(&config, String::new(), &mut all);
        *config.pointer_mut(place.get::<String>(&all)).unwrap() = json;
        look(&config);
    }
}
