//! A running Envoy's `/config_dump` and `/clusters?format=json` → its parts.

use serde_json::Value;

use super::super::json::{at, kind, list, text};
use super::{Cluster, Envoy, Listener, ReadError};

/// Reads both answers; without that of `/clusters` the number of hosts is unknown.
///
/// # Errors
/// [`ReadError`]: the first is no configuration of Envoy.
pub(crate) fn running(config: &[u8], clusters: Option<&[u8]>) -> Result<Envoy, ReadError> {
    let wrong = |why: &str| ReadError(format!("no configuration of Envoy: {why}"));
    let json: Value = serde_json::from_slice(config).map_err(|error| wrong(&error.to_string()))?;
    let configs = at(&json, "configs").and_then(Value::as_array);
    let configs = configs.ok_or_else(|| wrong("has no configs"))?;
    let mut envoy = Envoy::default();
    for part in configs {
        match kind(part) {
            "BootstrapConfigDump" => {
                if let Some(bootstrap) = at(part, "bootstrap") {
                    envoy.bootstrap = bootstrap.clone();
                }
            }
            "ClustersConfigDump" => take_clusters(&mut envoy, part),
            "ListenersConfigDump" => take_listeners(&mut envoy, part),
            "RoutesConfigDump" => take_routes(&mut envoy, part),
            _ => {}
        }
    }
    if let Some(fields) = envoy.bootstrap.as_object_mut() {
        // They are among the parts.
        fields.remove("static_resources");
    }
    let hosts: Option<Value> = clusters.and_then(|body| serde_json::from_slice(body).ok());
    for status in list(&hosts.unwrap_or_default(), "cluster_statuses") {
        if let Some(name) = text(status, "name") {
            let hosts = list(status, "host_statuses").len();
            envoy.hosts.insert(name.to_owned(), hosts);
        }
    }
    Ok(envoy)
}

fn take_clusters(envoy: &mut Envoy, part: &Value) {
    for field in ["static_clusters", "dynamic_active_clusters"] {
        for entry in list(part, field) {
            if let Some(cluster) = at(entry, "cluster") {
                let name = text(cluster, "name").unwrap_or_default();
                let place = format!("cluster {name}");
                envoy.clusters.push(Cluster::new(place, cluster.clone()));
            }
        }
    }
}

fn take_listeners(envoy: &mut Envoy, part: &Value) {
    let fixed = list(part, "static_listeners").iter();
    let fixed = fixed.filter_map(|entry| at(entry, "listener"));
    let dynamic = list(part, "dynamic_listeners").iter();
    let dynamic = dynamic.filter_map(|entry| at(entry, "active_state.listener"));
    for (number, listener) in fixed.chain(dynamic).enumerate() {
        envoy.listeners.push(Listener {
            name: text(listener, "name").map_or_else(|| format!("{number}"), str::to_owned),
            json: listener.clone(),
        });
    }
}

fn take_routes(envoy: &mut Envoy, part: &Value) {
    for entry in list(part, "dynamic_route_configs") {
        if let Some(config) = at(entry, "route_config")
            && let Some(name) = text(config, "name")
        {
            envoy.routes.insert(name.to_owned(), config.clone());
        }
    }
}
