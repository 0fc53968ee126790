//! The routes of a connection manager that lead to a service, each with its place.

use serde_json::{Value, json};
use unitring_balancer::discovery::routes;

use super::json::{at, list, text};
use super::managers::{Manager, Routes};

/// A route to a service.
#[derive(Debug)]
pub(super) struct RouteTo<'a> {
    /// `listener ingress, virtual host all, route prefix /`.
    pub(super) place: String,
    pub(super) host: &'a Value,
    pub(super) action: &'a Value,
    /// As the filter reads it.
    pub(super) read: routes::Route,
}

impl RouteTo<'_> {
    /// Its own policy of retries, or that of its virtual host.
    pub(super) fn retry_policy(&self) -> Option<&Value> {
        at(self.action, "retry_policy").or_else(|| at(self.host, "retry_policy"))
    }
}

/// The routes that lead to a service, each with its place.
pub(super) fn routes_to<'a>(manager: &Manager<'a>, service: &str) -> Vec<RouteTo<'a>> {
    let Routes::Seen(config) = manager.routes else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for host in list(config, "virtual_hosts") {
        for route in list(host, "routes") {
            let Some(action) = at(route, "route").filter(|action| leads_to(action, service)) else {
                continue;
            };
            // The filter's own reader gets this route alone, so that its findings have a place. Envoy refuses routes
            // that it cannot read.
            let alone = with_field(
                config,
                "virtual_hosts",
                with_field(host, "routes", json!([route])),
            );
            let body = json!({"configs": [{"route_config": alone}]}).to_string();
            let read = routes::read(service, body.as_bytes())
                .unwrap_or_default()
                .naming;
            found.extend(read.into_iter().map(|read| RouteTo {
                place: format!(
                    "{}, virtual host {}, route {}",
                    manager.place,
                    text(host, "name").unwrap_or_default(),
                    matched(route)
                ),
                host,
                action,
                read,
            }));
        }
    }
    found
}

fn leads_to(action: &Value, service: &str) -> bool {
    let weighed = list(action, "weighted_clusters.clusters").iter();
    let mut names = weighed.map(|cluster| text(cluster, "name"));
    text(action, "cluster") == Some(service) || names.any(|name| name == Some(service))
}

/// An object with another value for the field: a list of one where the value is an object.
fn with_field(object: &Value, field: &str, value: Value) -> Value {
    let mut copy = serde_json::Map::new();
    for (name, old) in object.as_object().into_iter().flatten() {
        if name != field {
            copy.insert(name.clone(), old.clone());
        }
    }
    let value = if value.is_array() {
        value
    } else {
        json!([value])
    };
    copy.insert(field.to_owned(), value);
    Value::Object(copy)
}

/// A short form of a route's match.
fn matched(route: &Value) -> String {
    if let Some(name) = text(route, "name").filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    for kind in ["prefix", "path", "path_separated_prefix"] {
        if let Some(value) = text(route, &format!("match.{kind}")) {
            return format!("{kind} {value}");
        }
    }
    match text(route, "match.safe_regex.regex") {
        Some(regex) => format!("regex {regex}"),
        None if at(route, "match.connect_matcher").is_some() => "connect".to_owned(),
        None => "without a name".to_owned(),
    }
}

/// The clusters to which a manager leads.
pub(super) fn clusters_of<'a>(manager: &Manager<'a>) -> Vec<(String, &'a str)> {
    let config = match manager.routes {
        Routes::Seen(config) => config,
        Routes::Tcp(cluster) => return vec![(manager.place.clone(), cluster)],
        Routes::Unseen(_) => return Vec::new(),
    };
    let mut found = Vec::new();
    for host in list(config, "virtual_hosts") {
        for route in list(host, "routes") {
            let name = text(host, "name").unwrap_or_default();
            let place = format!(
                "{}, virtual host {name}, route {}",
                manager.place,
                matched(route)
            );
            let one = text(route, "route.cluster");
            let weighed = list(route, "route.weighted_clusters.clusters").iter();
            let weighed = weighed.filter_map(|cluster| text(cluster, "name"));
            found.extend(
                one.into_iter()
                    .chain(weighed)
                    .map(|name| (place.clone(), name)),
            );
        }
    }
    found
}
