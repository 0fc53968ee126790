//! The same Envoy, as its file has it and as it shows itself.

use super::*;

/// The configuration dump of an Envoy that runs a bootstrap.
fn dump(json: &Value) -> Vec<u8> {
    let wrap = |field: &str, parts: &str| -> Vec<Value> {
        let parts = json.pointer(parts).unwrap().as_array().unwrap();
        parts.iter().map(|part| json!({field: part})).collect()
    };
    let clusters = wrap("cluster", "/static_resources/clusters");
    let listeners = wrap("listener", "/static_resources/listeners");
    let config = json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": json},
        {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "static_clusters": clusters},
        {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "static_listeners": listeners},
    ]});
    config.to_string().into_bytes()
}

fn shown(config: &[u8], hosts: &Value) -> Vec<Finding> {
    let envoy = envoy::running(config, Some(hosts.to_string().as_bytes())).unwrap();
    of_envoy("http://127.0.0.1:9901", &envoy, None)
}

#[test]
fn a_running_envoy_has_the_findings_of_its_file() {
    let mut config = shipped("eds.yaml");
    assert_eq!(shown(&dump(&config), &json!({})), []);
    unset(&mut config, ORDERS, "circuit_breakers");
    let found = shown(&dump(&config), &json!({}));
    assert_eq!(codes(&found), BTreeSet::from([Code::RetryBudget]));
    assert_eq!(found[0].path, "cluster orders.circuit_breakers");
}

#[test]
fn hosts_that_come_by_eds_are_counted_where_they_run() {
    let mut config = shipped("eds.yaml");
    let place = format!("{ORDERS}/outlier_detection");
    unset(&mut config, &place, "always_eject_one_host");
    set(&mut config, &place, "max_ejection_percent", json!(20));
    let hosts = |count: usize| json!({"cluster_statuses": [{"name": "orders", "host_statuses": vec![json!({}); count]}]});
    let three = shown(&dump(&config), &hosts(3));
    assert_eq!(codes(&three), BTreeSet::from([Code::EjectsNobody]));
    assert_eq!(shown(&dump(&config), &hosts(5)), []);
}

#[test]
fn routes_that_come_by_rds_are_seen_where_they_run() {
    let mut config = shipped("envoy.yaml");
    let mut routes = config
        .pointer(&format!("{MANAGER}/route_config"))
        .unwrap()
        .clone();
    unset(&mut config, MANAGER, "route_config");
    set(
        &mut config,
        MANAGER,
        "rds",
        json!({"route_config_name": "web"}),
    );
    routes["name"] = json!("web");
    let with = |routes: &Value| {
        let mut dump: Value = serde_json::from_slice(&dump(&config)).unwrap();
        let part = json!({"@type": "RoutesConfigDump", "dynamic_route_configs": [{"route_config": routes}]});
        dump["configs"].as_array_mut().unwrap().push(part);
        shown(dump.to_string().as_bytes(), &json!({}))
    };
    assert_eq!(with(&routes), []);
    unset(
        &mut routes,
        "/virtual_hosts/0/routes/0/route",
        "hash_policy",
    );
    assert_eq!(codes(&with(&routes)), BTreeSet::from([Code::HashPolicy]));
}

#[test]
fn a_route_may_hash_what_another_filter_of_its_manager_does() {
    let mut config = shipped("envoy.yaml");
    let by_user = json!([{"header": {"header_name": "x-user"}}]);
    let filters = config.pointer_mut(&format!("{MANAGER}/http_filters"));
    let filters = filters.and_then(Value::as_array_mut).unwrap();
    let mut second = filters[0].clone();
    second["name"] = json!("unitring-second");
    filters.insert(0, second);
    set(
        &mut config,
        &settings(),
        "key",
        json!([{"header": "x-user"}]),
    );
    let routes = config.pointer_mut(&format!("{}/routes", host()));
    let routes = routes.and_then(Value::as_array_mut).unwrap();
    let mut second = routes[0].clone();
    second["match"] = json!({"prefix": "/users"});
    second["route"]["hash_policy"] = by_user;
    routes.insert(0, second);
    assert!(!codes(&found(&config)).contains(&Code::HashPolicy));
    // Without its route the second filter has none.
    let routes = config.pointer_mut(&format!("{}/routes", host()));
    routes.and_then(Value::as_array_mut).unwrap().remove(0);
    assert!(codes(&found(&config)).contains(&Code::HashPolicy));
}

#[test]
fn an_answer_that_is_no_configuration_is_refused() {
    for body in ["", "[]", "{}", "not found", r#"{"configs": {}}"#] {
        assert!(envoy::running(body.as_bytes(), None).is_err(), "{body}");
    }
}
