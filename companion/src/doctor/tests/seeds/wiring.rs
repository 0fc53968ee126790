//! Faults of the filter and its cluster.

use super::*;

pub(super) fn all() -> Vec<Seed> {
    let policy = "static_resources.clusters[0].load_balancing_policy";
    vec![
        seed(
            Code::NothingPlaced,
            "envoy.yaml",
            "static_resources",
            "neither the filter",
            |json| {
                set(json, MANAGER, "http_filters", json!([]));
            },
        ),
        seed(
            Code::SettingsRefused,
            "envoy.yaml",
            FILTER,
            "load.balance_factor = 50",
            |json| {
                set(
                    json,
                    &format!("{}/load", settings()),
                    "balance_factor",
                    json!(50),
                );
            },
        ),
        seed(
            Code::SettingsRefused,
            "native.yaml",
            policy,
            "steer",
            |json| {
                let place = format!(
                    "{ORDERS}/load_balancing_policy/policies/0/typed_extension_config/typed_config/lb_policy_config/value"
                );
                set(json, &place, "steer", json!({}));
            },
        ),
        seed(
            Code::NoService,
            "envoy.yaml",
            FILTER,
            "service order:",
            |json| {
                set(json, &settings(), "service", json!("order"));
            },
        ),
        seed(
            Code::NoService,
            "native.yaml",
            policy,
            "service order: the policy is that of the cluster orders",
            |json| {
                let place = format!(
                    "{ORDERS}/load_balancing_policy/policies/0/typed_extension_config/typed_config/lb_policy_config/value"
                );
                set(json, &place, "service", json!("order"));
            },
        ),
        seed(
            Code::SteerHeader,
            "envoy.yaml",
            policy,
            "reads x-host",
            |json| {
                let place = format!(
                    "{ORDERS}/load_balancing_policy/policies/0/typed_extension_config/typed_config/override_host_sources/0"
                );
                set(json, &place, "header", json!("x-host"));
            },
        ),
        seed(
            Code::SteerHeader,
            "envoy.yaml",
            policy,
            "is not override_host",
            |json| {
                unset(json, ORDERS, "load_balancing_policy");
                set(json, ORDERS, "lb_policy", json!("RING_HASH"));
            },
        ),
        seed(
            Code::FallbackPolicy,
            "envoy.yaml",
            policy,
            "neither ring_hash nor maglev",
            |json| {
                let place = format!(
                    "{ORDERS}/load_balancing_policy/policies/0/typed_extension_config/typed_config/fallback_policy/policies/0/typed_extension_config/typed_config"
                );
                set(
                    json,
                    &place,
                    "@type",
                    json!(
                        "type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random"
                    ),
                );
            },
        ),
        seed(
            Code::DiscoveryCluster,
            "envoy.yaml",
            FILTER,
            "envoy_adnim",
            |json| {
                set(
                    json,
                    &format!("{}/discovery", settings()),
                    "cluster",
                    json!("envoy_adnim"),
                );
            },
        ),
        seed(
            Code::DiscoveryCluster,
            "envoy.yaml",
            "static_resources.clusters[1].load_assignment",
            "leads to 127.0.0.1:9901, the admin interface is at 127.0.0.1:9902",
            |json| {
                set(
                    json,
                    "/admin/address/socket_address",
                    "port_value",
                    json!(9902),
                );
            },
        ),
        seed(
            Code::CompanionCluster,
            "envoy.yaml",
            FILTER,
            "unitrnig",
            |json| {
                set(
                    json,
                    &format!("{}/companion", settings()),
                    "cluster",
                    json!("unitrnig"),
                );
            },
        ),
        seed(
            Code::StatsExcluded,
            "envoy.yaml",
            "stats_config.stats_matcher",
            "inclusion_list",
            |json| {
                let patterns = json!({"inclusion_list": {"patterns": [{"prefix": "cluster."}]}});
                set(json, "/stats_config", "stats_matcher", patterns);
            },
        ),
        seed(
            Code::StatsExcluded,
            "envoy.yaml",
            "stats_config.stats_matcher",
            "exclusion_list",
            |json| {
                let patterns = json!({"exclusion_list": {"patterns": [{"contains": "unitring"}]}});
                set(json, "/stats_config", "stats_matcher", patterns);
            },
        ),
        seed(
            Code::Bypassed,
            "envoy.yaml",
            "listener second, virtual host all, route prefix /",
            "no filter for it",
            |json| {
                let mut second = json
                    .pointer("/static_resources/listeners/0")
                    .unwrap()
                    .clone();
                second["name"] = json!("second");
                second
                    .pointer_mut("/filter_chains/0/filters/0/typed_config/http_filters")
                    .unwrap()
                    .as_array_mut()
                    .unwrap()
                    .remove(0);
                json.pointer_mut("/static_resources/listeners")
                    .unwrap()
                    .as_array_mut()
                    .unwrap()
                    .push(second);
            },
        ),
        seed(
            Code::NativeReports,
            "native.yaml",
            "bootstrap_extensions",
            "no bootstrap extension",
            |json| {
                unset(json, "", "bootstrap_extensions");
            },
        ),
        seed(
            Code::VmStaysDead,
            "envoy.yaml",
            FILTER,
            "FAIL_CLOSED",
            |json| {
                unset(json, &wasm(), "failure_policy");
            },
        ),
        seed(
            Code::BodiesHidden,
            "sessions.yaml",
            FILTER,
            "capture.mode is sync",
            |json| {
                unset(json, &wasm(), "allow_on_headers_stop_iteration");
            },
        ),
        seed(
            Code::AdminPaths,
            "envoy.yaml",
            "admin.allow_paths",
            "/clusters and /config_dump",
            |json| {
                set(
                    json,
                    "/admin",
                    "allow_paths",
                    json!([{"prefix": "/stats"}, {"exact": "/clusters"}]),
                );
            },
        ),
        seed(
            Code::AdminPaths,
            "envoy.yaml",
            "admin.allow_paths",
            "no pattern for /runtime",
            |json| {
                let layer = json!({"name": "rtds", "rtds_layer": {"name": "rtds"}});
                set(json, "", "layered_runtime", json!({"layers": [layer]}));
                set(
                    json,
                    "/admin",
                    "allow_paths",
                    json!([{"prefix": "/clusters"}, {"prefix": "/config_dump"}]),
                );
            },
        ),
        seed(
            Code::LogsNothing,
            "envoy.yaml",
            "listener ingress",
            "the filter's access_log is not true",
            |json| set(json, MANAGER, "access_log", access_log()),
        ),
        seed(
            Code::LogsNothing,
            "tcp.yaml",
            "listener ingress",
            "there is no filter of unitring",
            |json| set(json, MANAGER, "access_log", access_log()),
        ),
    ]
}

/// A log that shows the filter's choice.
pub(super) fn access_log() -> Value {
    let format = "%FILTER_STATE(wasm.unitring_reason:PLAIN)%";
    json!([{"typed_config": {"log_format": {"json_format": {"reason": format}}}}])
}
