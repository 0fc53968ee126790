//! Envoy's `/clusters?format=json`, or the companion's registry → members.
//!
//! Envoy's order of hosts is kept, since its fill of the ring depends on it. Only the hosts of the
//! highest priority are taken: that a lower one is to be used is Envoy's decision, and then its own
//! policy makes the choice.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use unitring_protocol::ids::InstanceId;
use unitring_routing::membership::{Cause, Identity, Member, State};
use unitring_routing::names::Names;

use crate::json::{self, Json, JsonError};
use crate::settings::INSTANCES_MAX;

/// Why an answer of the admin interface is of no use. The last members stay in force.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It is not what Envoy answers.
    #[error("the admin interface did not answer with clusters: {0}")]
    Malformed(#[from] JsonError),
    /// The companion's answer was none.
    #[error("the companion did not answer with its registry: {0}")]
    NoRegistry(JsonError),
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
    let answer = json::read(body, &CLUSTER_FIELDS)?;
    let clusters = answer.list("cluster_statuses")?.unwrap_or_default();
    let cluster = clusters
        .iter()
        .find(|cluster| cluster.text("name").is_ok_and(|name| name == Some(service)))
        .ok_or_else(|| DiscoveryError::NoCluster(service.to_owned()))?;
    let hosts = cluster.list("host_statuses")?.unwrap_or_default();
    if hosts.len() > INSTANCES_MAX {
        return Err(DiscoveryError::TooMany(hosts.len()));
    }
    let hosts: Vec<Host<'_>> = hosts.iter().map(Host::of).collect::<Result<_, _>>()?;
    let highest = hosts.iter().map(|host| host.priority).min().unwrap_or(0);
    let hosts = hosts.into_iter().filter(|host| host.priority == highest);
    // A host without an IP (a pipe) cannot be named in the header.
    let members = hosts.filter_map(|host| host.into_member(identity));
    let mut members = without_repeated_addresses(members.collect());
    without_shared_ids(&mut members);
    Ok(members)
}

/// An address that is there twice is one instance: the first.
fn without_repeated_addresses(members: Vec<Member>) -> Vec<Member> {
    let addresses = Names::of(members.iter().map(|member| member.address.as_str()));
    let first = members.iter().enumerate();
    let first = first.map(|(at, member)| addresses.first(&member.address) == Some(at));
    let first: Vec<bool> = first.collect();
    let members = members.into_iter().zip(first);
    members
        .filter_map(|(member, is_first)| is_first.then_some(member))
        .collect()
}

fn without_shared_ids(members: &mut [Member]) {
    let ids = Names::of(members.iter().map(|member| member.id.as_str()));
    let shared = members.iter().map(|member| ids.is_repeated(&member.id));
    let shared: Vec<bool> = shared.collect();
    for (member, is_shared) in members.iter_mut().zip(shared) {
        if is_shared {
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
    let answer = json::read(body, &REGISTRY_FIELDS).map_err(DiscoveryError::NoRegistry)?;
    let instances = answer
        .list("instances")
        .map_err(DiscoveryError::NoRegistry)?;
    let instances = instances.ok_or(DiscoveryError::NoRegistry(JsonError::Missing("instances")))?;
    if instances.len() > INSTANCES_MAX {
        return Err(DiscoveryError::TooMany(instances.len()));
    }
    let members = instances.iter().map(member).collect::<Result<_, _>>();
    let members = members.map_err(DiscoveryError::NoRegistry)?;
    // Two ids of one address are one instance.
    Ok(without_repeated_addresses(members))
}

const REGISTRY_FIELDS: [&str; 5] = ["instances", "id", "address", "weight", "draining"];

fn member(registered: &Json) -> Result<Member, JsonError> {
    let id = registered.text("id")?.ok_or(JsonError::Missing("id"))?;
    let id: InstanceId = id.parse().map_err(|_| JsonError::Invalid("id"))?;
    let address = registered.text("address")?;
    let address = address.ok_or(JsonError::Missing("address"))?;
    let address: SocketAddr = address.parse().map_err(|_| JsonError::Invalid("address"))?;
    let weight = registered.number("weight")?;
    let weight: u32 = weight.ok_or(JsonError::Missing("weight"))?;
    let draining = registered.flag("draining")?;
    Ok(Member {
        weight: NonZeroU32::new(weight).ok_or(JsonError::Invalid("weight"))?,
        state: if draining {
            State::Draining
        } else {
            State::Serving
        },
        excluded: draining,
        ..Member::new(id.as_str(), &address.to_string())
    })
}

const CLUSTER_FIELDS: [&str; 15] = [
    "cluster_statuses",
    "name",
    "host_statuses",
    "address",
    "socket_address",
    "port_value",
    "hostname",
    "weight",
    "priority",
    "health_status",
    "eds_health_status",
    "failed_active_health_check",
    "failed_outlier_check",
    "pending_dynamic_removal",
    "excluded_via_immediate_hc_fail",
];

struct Host<'a> {
    address: Option<SocketAddr>,
    hostname: &'a str,
    weight: NonZeroU32,
    priority: u32,
    state: State,
}

impl<'a> Host<'a> {
    fn of(host: &'a Json) -> Result<Self, JsonError> {
        let socket = match host.field("address")? {
            Some(address) => address.field("socket_address")?,
            None => None,
        };
        let weight: u32 = host.number("weight")?.unwrap_or(1);
        let health = host.field("health_status")?;
        Ok(Self {
            address: socket.map(socket_address).transpose()?,
            hostname: host.text("hostname")?.unwrap_or_default(),
            weight: NonZeroU32::new(weight).ok_or(JsonError::Invalid("weight"))?,
            priority: host.number("priority")?.unwrap_or(0),
            state: health.map_or(Ok(State::Serving), state)?,
        })
    }

    fn into_member(self, identity: Identity) -> Option<Member> {
        let address = self.address?.to_string();
        let named = identity == Identity::Id && self.hostname.parse::<InstanceId>().is_ok();
        let id = if named { self.hostname } else { &address };
        Some(Member {
            weight: self.weight,
            state: self.state,
            ..Member::new(id, &address)
        })
    }
}

fn socket_address(socket: &Json) -> Result<SocketAddr, JsonError> {
    let address = socket
        .text("address")?
        .ok_or(JsonError::Missing("address"))?;
    let address: IpAddr = address.parse().map_err(|_| JsonError::Invalid("address"))?;
    let port = socket.number("port_value")?;
    Ok(SocketAddr::new(
        address,
        port.ok_or(JsonError::Missing("port_value"))?,
    ))
}

/// Envoy's own verdict, the gravest first. Envoy leaves out what is false.
fn state(health: &Json) -> Result<State, JsonError> {
    let failed_check = health.flag("failed_active_health_check")?;
    let outlier = health.flag("failed_outlier_check")?;
    let leaves =
        health.flag("pending_dynamic_removal")? || health.flag("excluded_via_immediate_hc_fail")?;
    Ok(
        match health.text("eds_health_status")?.unwrap_or("HEALTHY") {
            "DRAINING" => State::Draining,
            _ if failed_check => State::Failed(Cause::ActiveCheck),
            _ if outlier => State::Failed(Cause::OutlierDetection),
            _ if leaves => State::Failed(Cause::Told),
            "HEALTHY" | "UNKNOWN" | "DEGRADED" => State::Serving,
            _ => State::Failed(Cause::Told),
        },
    )
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
