//! Envoy's `/clusters?format=json`, or the companion's registry → members.
//!
//! Envoy's order of hosts is kept, since its fill of the ring depends on it. Only the hosts of the
//! highest priority are taken: that a lower one is to be used is Envoy's decision, and then its own
//! policy makes the choice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use serde::Deserialize;
use unitring_protocol::ids::InstanceId;
use unitring_routing::membership::{Cause, Identity, Member, State, Warmth};

use crate::settings::INSTANCES_MAX;

/// Why an answer of the admin interface is of no use. The last members stay in force.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It is not what Envoy answers.
    #[error("the admin interface did not answer with clusters: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The companion's answer was none.
    #[error("the companion did not answer with its registry: {0}")]
    NoRegistry(serde_json::Error),
    /// There is no such cluster (any more).
    #[error("Envoy has no cluster named {0}")]
    NoCluster(String),
    /// More hosts than the filter is made for.
    #[error("cluster has {0} hosts, more than {INSTANCES_MAX}")]
    TooMany(usize),
}

/// The path that asks for one cluster.
pub fn path(service: &str) -> String {
    // A service's name has letters, digits and `._-` only; of these the dot means something in a
    // regular expression.
    format!(
        "/clusters?format=json&filter=%5E{}%24",
        service.replace('.', "%5C.")
    )
}

/// The members of the service's cluster.
///
/// Placed by id, a member's id is its hostname in Envoy, which is where an EDS server names an
/// endpoint (the companion's does). A hostname that several have, as those of one DNS name do, is
/// no id: then the address is.
///
/// # Errors
/// Anything that is not a cluster of that name with a bounded number of hosts.
pub fn members(
    service: &str,
    identity: Identity,
    body: &[u8],
) -> Result<Vec<Member>, DiscoveryError> {
    let answer: Clusters = serde_json::from_slice(body)?;
    let cluster = answer
        .cluster_statuses
        .into_iter()
        .find(|cluster| cluster.name == service)
        .ok_or_else(|| DiscoveryError::NoCluster(service.to_owned()))?;
    if cluster.host_statuses.len() > INSTANCES_MAX {
        return Err(DiscoveryError::TooMany(cluster.host_statuses.len()));
    }
    let highest = cluster
        .host_statuses
        .iter()
        .map(|host| host.priority)
        .min()
        .unwrap_or(0);
    let mut seen = BTreeSet::new();
    let hosts = cluster
        .host_statuses
        .into_iter()
        .filter(|host| host.priority == highest);
    // An address that Envoy lists twice is one instance; a host without an IP (a pipe) cannot be
    // named in the header.
    let mut members: Vec<Member> = hosts
        .filter_map(|host| host.into_member(identity))
        .filter(|member| seen.insert(member.address.clone()))
        .collect();
    without_shared_ids(&mut members);
    Ok(members)
}

fn without_shared_ids(members: &mut [Member]) {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for member in &*members {
        *uses.entry(member.id.clone()).or_default() += 1;
    }
    for member in members {
        if uses.get(&member.id).is_some_and(|count| *count > 1) {
            member.id.clone_from(&member.address);
        }
    }
}

/// Where the companion tells a service's registered instances.
pub fn registry_path(service: &str) -> String {
    format!("/v1/services/{service}/instances")
}

/// Reads the companion's registry: that somebody is registered is all that is known of his health.
///
/// # Errors
/// [`DiscoveryError`]; the members that were known stay.
pub fn registered(body: &[u8]) -> Result<Vec<Member>, DiscoveryError> {
    let answer: Registry = serde_json::from_slice(body).map_err(DiscoveryError::NoRegistry)?;
    if answer.instances.len() > INSTANCES_MAX {
        return Err(DiscoveryError::TooMany(answer.instances.len()));
    }
    let mut seen = BTreeSet::new();
    let instances = answer.instances.into_iter();
    let members = instances.map(|instance| Member {
        id: instance.id.to_string(),
        address: instance.address.to_string(),
        weight: instance.weight,
        warmth: Warmth::FULL,
        state: if instance.draining {
            State::Draining
        } else {
            State::Serving
        },
    });
    // Two ids of one address are one instance.
    Ok(members
        .filter(|member| seen.insert(member.address.clone()))
        .collect())
}

#[derive(Deserialize)]
struct Registry {
    instances: Vec<Registered>,
}

#[derive(Deserialize)]
struct Registered {
    id: InstanceId,
    address: SocketAddr,
    weight: NonZeroU32,
    #[serde(default)]
    draining: bool,
}

#[derive(Deserialize)]
struct Clusters {
    #[serde(default)]
    cluster_statuses: Vec<Cluster>,
}

#[derive(Deserialize)]
struct Cluster {
    name: String,
    #[serde(default)]
    host_statuses: Vec<Host>,
}

#[derive(Deserialize)]
struct Host {
    #[serde(default)]
    address: Address,
    #[serde(default)]
    hostname: String,
    weight: Option<NonZeroU32>,
    #[serde(default)]
    priority: u32,
    #[serde(default)]
    health_status: Health,
}

#[derive(Deserialize, Default)]
struct Address {
    socket_address: Option<Socket>,
}

#[derive(Deserialize)]
struct Socket {
    address: IpAddr,
    port_value: u16,
}

/// Envoy leaves out what is false.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Health {
    eds_health_status: Option<String>,
    failed_active_health_check: bool,
    failed_outlier_check: bool,
    pending_dynamic_removal: bool,
    excluded_via_immediate_hc_fail: bool,
}

impl Host {
    fn into_member(self, identity: Identity) -> Option<Member> {
        let Socket {
            address,
            port_value,
        } = self.address.socket_address?;
        let address = SocketAddr::new(address, port_value).to_string();
        let named = identity == Identity::Id && self.hostname.parse::<InstanceId>().is_ok();
        Some(Member {
            id: if named {
                self.hostname
            } else {
                address.clone()
            },
            address,
            weight: self.weight.unwrap_or(NonZeroU32::MIN),
            warmth: Warmth::FULL,
            state: self.health_status.state(),
        })
    }
}

impl Health {
    /// Envoy's own verdict, the gravest first.
    fn state(&self) -> State {
        match self.eds_health_status.as_deref().unwrap_or("HEALTHY") {
            "DRAINING" => State::Draining,
            _ if self.failed_active_health_check => State::Failed(Cause::ActiveCheck),
            _ if self.failed_outlier_check => State::Failed(Cause::OutlierDetection),
            _ if self.pending_dynamic_removal || self.excluded_via_immediate_hc_fail => {
                State::Failed(Cause::Told)
            }
            "HEALTHY" | "UNKNOWN" | "DEGRADED" => State::Serving,
            _ => State::Failed(Cause::Told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_come_in_envoys_order_with_weight_and_health() {
        let body = br#"{"cluster_statuses": [{"name": "other"}, {"name": "orders", "host_statuses": [
            {"address": {"socket_address": {"address": "10.0.0.9", "port_value": 80}}, "weight": 3,
             "health_status": {"eds_health_status": "HEALTHY"}, "stats": [{"name": "cx_total"}]},
            {"address": {"socket_address": {"address": "::1", "port_value": 80}},
             "hostname": "b", "health_status": {"failed_active_health_check": true}},
            {"address": {"pipe": {"path": "/tmp/x"}}},
            {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}},
             "health_status": {"eds_health_status": "DRAINING"}},
            {"address": {"socket_address": {"address": "10.0.0.2", "port_value": 80}}, "priority": 1}
        ]}]}"#;
        let members = members("orders", Identity::Address, body).unwrap();
        let seen: Vec<_> = members
            .iter()
            .map(|m| (m.id.as_str(), m.weight.get(), m.state))
            .collect();
        assert_eq!(
            seen,
            [
                ("10.0.0.9:80", 3, State::Serving),
                ("[::1]:80", 1, State::Failed(Cause::ActiveCheck)),
                ("10.0.0.1:80", 1, State::Draining)
            ]
        );
    }

    #[test]
    fn by_id_a_hostname_is_the_id_unless_several_have_it_or_it_is_none() {
        let host = |port: u16, name: &str| {
            format!(
                r#"{{"hostname": {name:?}, "address":
                {{"socket_address": {{"address": "10.0.0.1", "port_value": {port}}}}}}}"#
            )
        };
        let hosts = [
            host(1, "a"),
            host(2, "dns"),
            host(3, "dns"),
            host(4, ""),
            host(5, "a,b"),
        ];
        let body = format!(
            r#"{{"cluster_statuses": [{{"name": "orders", "host_statuses": [{}]}}]}}"#,
            hosts.join(",")
        );
        let members = members("orders", Identity::Id, body.as_bytes()).unwrap();
        let ids: Vec<_> = members.iter().map(|m| m.id.as_str()).collect();
        let others = ["10.0.0.1:2", "10.0.0.1:3", "10.0.0.1:4", "10.0.0.1:5"];
        assert_eq!(ids[0], "a");
        assert_eq!(ids[1..], others);
    }

    #[test]
    fn an_answer_without_the_cluster_is_an_error_and_not_an_empty_service() {
        let error =
            members("orders", Identity::Address, br#"{"cluster_statuses": []}"#).unwrap_err();
        assert_eq!(error.to_string(), "Envoy has no cluster named orders");
        assert!(members("orders", Identity::Address, b"<html>").is_err());
    }

    #[test]
    fn the_registry_has_ids_weights_and_who_drains() {
        let body = br#"{"revision": 7, "instances": [
            {"id": "a", "address": "10.0.0.1:80", "weight": 2, "draining": false, "expires_ms": null},
            {"id": "b", "address": "[::1]:80", "weight": 1, "draining": true},
            {"id": "c", "address": "10.0.0.1:80", "weight": 1}
        ]}"#;
        let members = registered(body).unwrap();
        let seen: Vec<_> = members
            .iter()
            .map(|m| (m.id.as_str(), m.address.as_str(), m.weight.get(), m.state))
            .collect();
        let expected = [
            ("a", "10.0.0.1:80", 2, State::Serving),
            ("b", "[::1]:80", 1, State::Draining),
        ];
        assert_eq!(seen, expected);
        assert!(registered(b"{}").is_err());
    }

    #[test]
    fn the_path_asks_for_exactly_one_cluster() {
        assert_eq!(path("a.b-c"), "/clusters?format=json&filter=%5Ea%5C.b-c%24");
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            drop(members("orders", Identity::Id, &bytes));
            drop(registered(&bytes));
        }
    }
}
