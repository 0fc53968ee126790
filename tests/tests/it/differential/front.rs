//! An Envoy that reports the host it chose for a request in the header `x-chosen`.

use anyhow::Result;
use serde_json::{Map, Value, json};
use unitring_tests::config::{ADMIN, EnvoyConfig, LISTENER};
use unitring_tests::envoy::Envoy;

/// The parts that differ between these Envoys.
#[derive(Debug, Default)]
pub(crate) struct Front {
    pub(crate) clusters: Vec<Value>,
    pub(crate) routes: Vec<Value>,
    /// The filters before the router.
    pub(crate) filters: Vec<Value>,
    /// Other fields of the bootstrap.
    pub(crate) others: Map<String, Value>,
}

impl Front {
    pub(crate) async fn start(mut self) -> Result<Envoy> {
        self.filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            },
        }));
        // Not the remote address: the hosts have no servers, so there is none.
        let chosen = json!({"header": {"key": "x-chosen", "value": "%UPSTREAM_HOST%"}});
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "ingress",
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": self.routes}],
                "response_headers_to_add": [chosen],
            },
            "http_filters": self.filters,
        });
        let filter = json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        });
        let mut config = json!({
            "admin": {"address": address("127.0.0.1", ADMIN)},
            "static_resources": {
                "listeners": [{
                    "name": "ingress",
                    "address": address("127.0.0.1", LISTENER),
                    "filter_chains": [{"filters": [filter]}],
                }],
                "clusters": self.clusters,
            },
        });
        for (name, value) in self.others {
            config[name] = value;
        }
        Envoy::start(&EnvoyConfig::own(config)).await
    }
}

pub(crate) fn address(ip: &str, port: u16) -> Value {
    json!({"socket_address": {"address": ip, "port_value": port}})
}

/// A route for requests with these headers.
pub(crate) fn route(headers: &[(&str, &str)], cluster: &str, hash_policy: &Value) -> Value {
    let headers = headers
        .iter()
        .map(|(name, value)| json!({"name": name, "string_match": {"exact": value}}));
    let headers: Value = headers.collect();
    json!({
        "match": {"prefix": "/", "headers": headers},
        "route": {"cluster": cluster, "hash_policy": hash_policy},
    })
}
