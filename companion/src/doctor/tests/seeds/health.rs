//! Faults of what finds out dead instances.

use super::*;

pub(super) fn all() -> Vec<Seed> {
    let outlier = "static_resources.clusters[0].outlier_detection";
    vec![
        seed(
            Code::EjectsNobody,
            "envoy.yaml",
            outlier,
            "max_ejection_percent 20 of 4 hosts",
            |json| {
                let place = format!("{ORDERS}/outlier_detection");
                unset(json, &place, "always_eject_one_host");
                set(json, &place, "max_ejection_percent", json!(20));
            },
        ),
        seed(
            Code::NoDetection,
            "envoy.yaml",
            "static_resources.clusters[0].health_checks",
            "neither",
            |json| {
                unset(json, ORDERS, "outlier_detection");
                unset(json, ORDERS, "health_checks");
                set(
                    json,
                    &settings(),
                    "ejection",
                    json!({"consecutive_failures": 0}),
                );
            },
        ),
        seed(
            Code::NoDetection,
            "native.yaml",
            "static_resources.clusters[0].health_checks",
            "neither",
            |json| {
                unset(json, ORDERS, "outlier_detection");
                unset(json, ORDERS, "health_checks");
            },
        ),
        seed(
            Code::Thresholds,
            "envoy.yaml",
            FILTER,
            "health.panic_threshold is 20, and the cluster orders has 50",
            |json| {
                set(json, &settings(), "health", json!({"panic_threshold": 20}));
            },
        ),
        seed(
            Code::Thresholds,
            "native.yaml",
            "static_resources.clusters[0].load_balancing_policy",
            "health.panic_threshold is 50, and the cluster orders has 0",
            |json| {
                set(
                    json,
                    ORDERS,
                    "common_lb_config",
                    json!({"healthy_panic_threshold": {"value": 0.0}}),
                );
            },
        ),
        seed(
            Code::EveryError,
            "envoy.yaml",
            outlier,
            "enforcing_consecutive_5xx is 100",
            |json| {
                unset(
                    json,
                    &format!("{ORDERS}/outlier_detection"),
                    "enforcing_consecutive_5xx",
                );
            },
        ),
    ]
}
