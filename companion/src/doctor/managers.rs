//! An Envoy → the filters that handle connections, with their routes and our filter; and the native module's
//! policies. What of them is ours, and with which settings.

use serde_json::Value;
use unitring_balancer::settings::{Services, Settings};

use super::envoy::{Cluster, Envoy};
use super::json::{at, kind, list, text};

/// A filter that handles connections, in the order of listeners and chains.
#[derive(Debug)]
pub(super) struct Manager<'a> {
    /// `listener ingress`.
    pub(super) place: String,
    pub(super) json: &'a Value,
    pub(super) routes: Routes<'a>,
    /// Our filters in it: usually one.
    pub(super) filters: Vec<Filter<'a>>,
    /// Filters that come while Envoy runs.
    pub(super) unseen_filters: Vec<&'a str>,
}

/// Where a connection manager's routes are.
#[derive(Debug)]
pub(super) enum Routes<'a> {
    /// Here.
    Seen(&'a Value),
    /// They come while Envoy runs.
    Unseen(String),
    /// There are none: `tcp_proxy` leads to this cluster.
    Tcp(&'a str),
}

#[derive(Debug)]
pub(super) struct Filter<'a> {
    pub(super) place: String,
    /// Its Wasm configuration.
    pub(super) wasm: &'a Value,
    pub(super) settings: Result<Services, String>,
}

/// The policy of the native module in a cluster.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) place: String,
    pub(super) cluster: String,
    pub(super) settings: Result<Settings, String>,
}

/// The connection managers, and `tcp_proxy`s, of all listeners.
pub(super) fn managers(envoy: &Envoy) -> Vec<Manager<'_>> {
    let mut found = Vec::new();
    for listener in &envoy.listeners {
        let chains = list(&listener.json, "filter_chains").iter();
        let chains: Vec<&Value> = chains
            .chain(at(&listener.json, "default_filter_chain"))
            .collect();
        for (number, chain) in chains.iter().enumerate() {
            let mut place = format!("listener {}", listener.name);
            if chains.len() > 1 {
                place.push_str(&format!(", filter chain {number}"));
            }
            let filters = list(chain, "filters").iter();
            let configs = filters.filter_map(|filter| at(filter, "typed_config"));
            found.extend(configs.filter_map(|json| manager(envoy, &place, json)));
        }
    }
    found
}

fn manager<'a>(envoy: &'a Envoy, place: &str, json: &'a Value) -> Option<Manager<'a>> {
    let routes = match kind(json) {
        "HttpConnectionManager" => match (
            at(json, "route_config"),
            text(json, "rds.route_config_name"),
        ) {
            (Some(routes), _) => Routes::Seen(routes),
            (None, Some(name)) => match envoy.routes.get(name) {
                Some(routes) => Routes::Seen(routes),
                None => Routes::Unseen(format!("the routes {name} come by RDS")),
            },
            (None, None) => Routes::Unseen("the routes come by scope, or from nowhere".to_owned()),
        },
        "TcpProxy" => Routes::Tcp(text(json, "cluster").unwrap_or_default()),
        _ => return None,
    };
    let filters = list(json, "http_filters").iter();
    let unseen = filters
        .clone()
        .filter(|filter| at(filter, "config_discovery").is_some());
    let unseen_filters = unseen
        .map(|filter| text(filter, "name").unwrap_or_default())
        .collect();
    let filters = filters.filter_map(|filter| self::filter(place, filter));
    Some(Manager {
        place: place.to_owned(),
        json,
        routes,
        filters: filters.collect(),
        unseen_filters,
    })
}

/// Our filter, if it is ours: by its name, its file, or settings that only ours has.
fn filter<'a>(place: &str, json: &'a Value) -> Option<Filter<'a>> {
    let config = at(json, "typed_config").filter(|config| kind(config) == "Wasm")?;
    let wasm = at(config, "config")?;
    let name = text(json, "name").unwrap_or_default();
    let told = [Some(name), text(wasm, "name"), text(wasm, "root_id")];
    let mut told = told.iter().flatten();
    let code = at(wasm, "vm_config.code").map(Value::to_string);
    let is_named = told.any(|told| told.contains("unitring"))
        || code.is_some_and(|code| code.contains("unitring.wasm"));
    let settings = settings(wasm);
    (is_named || settings.is_ok()).then(|| Filter {
        place: format!("{place}, http filter {name}"),
        wasm,
        settings,
    })
}

fn settings(wasm: &Value) -> Result<Services, String> {
    let bytes = payload(at(wasm, "configuration").unwrap_or(&Value::Null))?;
    Services::parse(&bytes).map_err(|error| error.to_string())
}

/// The bytes that Envoy passes on from an `Any`: the text of a `StringValue`, or a `Struct` as JSON.
fn payload(any: &Value) -> Result<Vec<u8>, String> {
    match (kind(any), at(any, "value")) {
        ("StringValue", Some(Value::String(text))) => Ok(text.clone().into_bytes()),
        ("Struct" | "TypedStruct", Some(value @ Value::Object(_))) => {
            Ok(value.to_string().into_bytes())
        }
        ("Struct" | "TypedStruct" | "StringValue", None) => Ok(b"{}".to_vec()),
        ("", _) => Err(
            "there are no settings: the configuration must be a google.protobuf.Struct \
                        or a google.protobuf.StringValue"
                .to_owned(),
        ),
        (other, _) => Err(format!(
            "the configuration is a {other}: must be a google.protobuf.Struct or a google.protobuf.StringValue"
        )),
    }
}

/// The native module's policy of a cluster, if it has that.
pub(super) fn policy(cluster: &Cluster) -> Option<Policy> {
    let mut policies = list(&cluster.json, "load_balancing_policy.policies").iter();
    let first = policies.next()?;
    let config = at(first, "typed_extension_config.typed_config")?;
    let is_ours = kind(config) == "DynamicModulesLoadBalancerConfig"
        && text(config, "lb_policy_name") == Some("unitring");
    let bytes = || payload(at(config, "lb_policy_config").unwrap_or(&Value::Null));
    is_ours.then(|| Policy {
        place: cluster.path("load_balancing_policy"),
        cluster: cluster.name.clone(),
        settings: bytes()
            .and_then(|bytes| Settings::of_policy(&bytes).map_err(|error| error.to_string())),
    })
}
