//! Configuration of an Envoy, from its file or from its admin interface → clusters, listeners and routes in one form,
//! so that each rule reads both in the same way.

mod bootstrap;
mod dump;

use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{at, list, text};

pub(crate) use bootstrap::read;
pub(crate) use dump::running;

/// Why a text is no configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ReadError(String);

/// An Envoy, as far as it was seen.
#[derive(Debug, Default)]
pub(crate) struct Envoy {
    /// Admin interface, stats, extensions.
    pub(super) bootstrap: Value,
    pub(super) clusters: Vec<Cluster>,
    pub(super) listeners: Vec<Listener>,
    /// Routes from RDS, by name.
    pub(super) routes: BTreeMap<String, Value>,
    /// How many hosts a cluster has, as a running Envoy counts them.
    pub(super) hosts: BTreeMap<String, usize>,
    /// The parts that this view cannot have: the place that names each, and what it is.
    pub(super) unseen: Vec<(String, String)>,
    /// Whether further listeners and clusters may come.
    pub(super) has_more_listeners: bool,
    pub(super) has_more_clusters: bool,
}

#[derive(Debug)]
pub(super) struct Cluster {
    /// Where it is written.
    pub(super) place: String,
    pub(super) name: String,
    pub(super) json: Value,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) json: Value,
}

impl Envoy {
    pub(super) fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// How many hosts it has; 0 if that is not known.
    pub(super) fn hosts(&self, cluster: &Cluster) -> usize {
        if let Some(hosts) = self.hosts.get(&cluster.name) {
            return *hosts;
        }
        match cluster.kind() {
            "STATIC" => cluster.endpoints().count(),
            _ => 0,
        }
    }
}

impl Cluster {
    pub(super) fn new(place: String, json: Value) -> Self {
        let name = text(&json, "name").unwrap_or_default().to_owned();
        Self { place, name, json }
    }

    /// How it gets its hosts.
    pub(super) fn kind(&self) -> &str {
        match at(&self.json, "cluster_type") {
            Some(custom) => text(custom, "name").unwrap_or_default(),
            None => text(&self.json, "type").unwrap_or("STATIC"),
        }
    }

    /// The addresses that are written in it: host and port.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = Address<'_>> {
        let places = list(&self.json, "load_assignment.endpoints").iter();
        let endpoints = places.flat_map(|place| list(place, "lb_endpoints"));
        endpoints.map(|endpoint| {
            let address = at(endpoint, "endpoint.address.socket_address");
            Address::of(address.unwrap_or(&Value::Null))
        })
    }

    pub(super) fn path(&self, field: &str) -> String {
        format!("{}.{field}", self.place)
    }
}

/// A socket's address. Another kind, as a pipe, has neither host nor port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address<'a> {
    pub(super) host: Option<&'a str>,
    pub(super) port: Option<u64>,
}

impl<'a> Address<'a> {
    /// From a `socket_address`.
    pub(super) fn of(socket: &'a Value) -> Self {
        Self {
            host: text(socket, "address"),
            port: super::json::number(socket, "port_value"),
        }
    }

    /// Whether no other machine reaches it: a pipe, or loopback.
    pub(super) fn is_local(&self) -> bool {
        let Some(host) = self.host else {
            return true;
        };
        let ip = host.parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Whether connections to this address may reach the other one.
    pub(super) fn may_reach(&self, other: &Self) -> bool {
        if let (Some(ours), Some(theirs)) = (self.port, other.port)
            && ours != theirs
            // Envoy takes any free port for 0.
            && theirs != 0
        {
            return false;
        }
        let ip = |host: Option<&str>| host.and_then(|host| host.parse::<std::net::IpAddr>().ok());
        match (ip(self.host), ip(other.host)) {
            (Some(ours), Some(theirs)) => ours == theirs || theirs.is_unspecified(),
            // A name may be of any address.
            _ => self.host.is_some() == other.host.is_some(),
        }
    }

    pub(super) fn shown(&self) -> String {
        let host = self.host.unwrap_or("?");
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}
