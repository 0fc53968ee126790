//! Faults of routes and retries.

use super::*;

pub(super) fn all() -> Vec<Seed> {
    vec![
        seed(
            Code::HashPolicy,
            "envoy.yaml",
            ROUTE,
            "hashes header x-user, the filter hashes header x-user-id",
            |json| {
                set(
                    json,
                    &format!("{}/hash_policy/0/header", route()),
                    "header_name",
                    json!("x-user"),
                );
            },
        ),
        seed(
            Code::HashPolicy,
            "native.yaml",
            ROUTE,
            "no hash_policy",
            |json| unset(json, &route(), "hash_policy"),
        ),
        seed(
            Code::HashPolicy,
            "native-tcp.yaml",
            "listener ingress",
            "no hash_policy",
            |json| {
                unset(json, MANAGER, "hash_policy");
            },
        ),
        seed(
            Code::HeaderRemoved,
            "envoy.yaml",
            ROUTE,
            "removes x-unitring-host",
            |json| {
                set(
                    json,
                    &host(),
                    "request_headers_to_remove",
                    json!(["X-Unitring-Host"]),
                );
            },
        ),
        seed(
            Code::HeaderRemoved,
            "sessions.yaml",
            ROUTE,
            "removes x-unitring-update",
            |json| {
                set(
                    json,
                    &host(),
                    "response_headers_to_remove",
                    json!(["x-unitring-update"]),
                );
            },
        ),
        seed(
            Code::RetryCount,
            "envoy.yaml",
            ROUTE,
            "num_retries is 5, and steer.candidates is 3",
            |json| {
                set(
                    json,
                    &format!("{}/retry_policy", route()),
                    "num_retries",
                    json!(5),
                );
            },
        ),
        seed(
            Code::RetryCount,
            "envoy.yaml",
            ROUTE,
            "num_retries is 1,",
            |json| {
                unset(json, &format!("{}/retry_policy", route()), "num_retries");
            },
        ),
        seed(
            Code::RetryBudget,
            "envoy.yaml",
            "static_resources.clusters[0].circuit_breakers",
            "no circuit_breakers",
            |json| {
                unset(json, ORDERS, "circuit_breakers");
            },
        ),
        seed(
            Code::RetryBudget,
            "envoy.yaml",
            "static_resources.clusters[0].circuit_breakers",
            "neither",
            |json| {
                set(
                    json,
                    ORDERS,
                    "circuit_breakers",
                    json!({"thresholds": [{"priority": "HIGH", "max_retries": 99}, {"max_requests": 9}]}),
                );
            },
        ),
        seed(
            Code::AttemptCount,
            "envoy.yaml",
            ROUTE,
            "does not set include_attempt_count_in_response",
            |json| {
                set(
                    json,
                    &settings(),
                    "discovery",
                    json!({"source": "companion"}),
                );
                set(
                    json,
                    &settings(),
                    "steer",
                    json!({"attempts_in_response": true}),
                );
            },
        ),
        seed(
            Code::AttemptCountUnneeded,
            "envoy.yaml",
            FILTER,
            "discovery.source admin",
            |json| {
                set(
                    json,
                    &settings(),
                    "steer",
                    json!({"attempts_in_response": true}),
                );
            },
        ),
        seed(
            Code::AttemptCountUnneeded,
            "envoy.yaml",
            FILTER,
            "attempts_in_response is false",
            |json| {
                set(
                    json,
                    &settings(),
                    "discovery",
                    json!({"source": "companion"}),
                );
                set(
                    json,
                    &host(),
                    "include_attempt_count_in_response",
                    json!(true),
                );
            },
        ),
        seed(
            Code::NoRetries,
            "envoy.yaml",
            ROUTE,
            "no retry_policy",
            |json| unset(json, &route(), "retry_policy"),
        ),
        seed(
            Code::RetryPredicate,
            "native.yaml",
            ROUTE,
            "previous_hosts",
            |json| {
                unset(
                    json,
                    &format!("{}/retry_policy", route()),
                    "retry_host_predicate",
                );
            },
        ),
    ]
}
