//! Faults that let others in.

use super::*;

pub(super) fn all() -> Vec<Seed> {
    vec![
        seed(
            Code::AdminExposed,
            "envoy.yaml",
            "admin.address",
            "0.0.0.0:9901",
            |json| {
                set(
                    json,
                    "/admin/address/socket_address",
                    "address",
                    json!("0.0.0.0"),
                );
            },
        ),
        seed(
            Code::AdminUnbounded,
            "envoy.yaml",
            "admin",
            "no allow_paths",
            |json| unset(json, "/admin", "allow_paths"),
        ),
        seed(
            Code::AdminRouted,
            "envoy.yaml",
            "listener ingress, virtual host all, route prefix /admin",
            "the admin interface",
            |json| {
                let route =
                    json!({"match": {"prefix": "/admin"}, "route": {"cluster": "envoy_admin"}});
                let routes = json.pointer_mut(&format!("{}/routes", host())).unwrap();
                routes.as_array_mut().unwrap().insert(0, route);
            },
        ),
        seed(
            Code::CompanionPlaintext,
            "envoy.yaml",
            "static_resources.clusters[2].transport_socket",
            "leads to 10.0.0.9:7001 without",
            |json| {
                remote(json);
                set(
                    json,
                    &format!("{}/companion", settings()),
                    "token",
                    json!("secret"),
                );
            },
        ),
        seed(
            Code::CompanionAnonymous,
            "tls.yaml",
            FILTER,
            "neither companion.token nor a client certificate",
            |json| {
                remote(json);
                unset(
                    json,
                    "/static_resources/clusters/2/transport_socket/typed_config/common_tls_context",
                    "tls_certificates",
                );
            },
        ),
    ]
}

/// Moves the companion to another host.
fn remote(json: &mut Value) {
    let place = "/static_resources/clusters/2/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    set(json, place, "address", json!("10.0.0.9"));
}
