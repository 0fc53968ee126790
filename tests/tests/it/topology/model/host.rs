//! Hosts and localities, from the pages of `/clusters` and of endpoints.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use anyhow::{Context, Result};
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Host {
    pub(super) address: String,
    hostname: String,
    hash_key: String,
    pub(super) weight: u64,
    pub(super) priority: usize,
    /// Region, zone, sub-zone.
    pub(super) place: [String; 3],
    is_unhealthy: bool,
    has_degraded: bool,
    /// Whether it is left out of every count of hosts.
    pub(super) is_excluded: bool,
}

/// A locality of one priority, in Envoy's order.
#[derive(Debug)]
pub(super) struct Locality {
    pub(super) priority: usize,
    pub(super) place: [String; 3],
    pub(super) weight: Option<u64>,
}

impl Host {
    pub(super) fn is_healthy(&self) -> bool {
        !self.is_unhealthy && !self.has_degraded
    }

    pub(super) fn is_degraded(&self) -> bool {
        !self.is_unhealthy && self.has_degraded
    }

    /// The name that places the host.
    pub(super) fn name(&self, by_hostname: bool) -> &str {
        match (self.hash_key.as_str(), by_hostname) {
            ("", true) => &self.hostname,
            ("", false) => &self.address,
            (key, _) => key,
        }
    }

    fn read(host: &Value, priority: usize, place: [String; 3]) -> Result<Self> {
        let health = &host["health_status"];
        let flag = |name: &str| health[name] == Value::Bool(true);
        let eds = health["eds_health_status"].as_str().unwrap_or_default();
        let is_drained = eds == "DRAINING";
        Ok(Self {
            address: address(&host["address"])?,
            hostname: text(&host["hostname"]),
            hash_key: String::new(),
            weight: host["weight"].as_u64().unwrap_or(1),
            priority,
            place,
            is_unhealthy: is_drained
                || eds == "UNHEALTHY"
                || flag("failed_active_health_check")
                || flag("failed_outlier_check"),
            has_degraded: eds == "DEGRADED"
                || flag("failed_active_degraded_check")
                || flag("failed_degraded_outlier_detection"),
            is_excluded: is_drained
                || flag("pending_active_hc")
                || flag("excluded_via_immediate_hc_fail"),
        })
    }
}

pub(super) fn read(hosts: &Value, endpoints: &Value) -> Result<(Vec<Host>, Vec<Locality>)> {
    let empty = Vec::new();
    let groups = endpoints.pointer("/configs/0/endpoint_config/endpoints");
    let groups = groups.and_then(Value::as_array).unwrap_or(&empty);
    let mut localities = Vec::new();
    // An address may be repeated: then it comes in the same order on both pages.
    let mut keys: BTreeMap<(usize, [String; 3], String), VecDeque<String>> = BTreeMap::new();
    for group in groups {
        let (priority, place) = (priority(group)?, place(&group["locality"]));
        for endpoint in group["lb_endpoints"].as_array().unwrap_or(&empty) {
            let key = endpoint.pointer("/metadata/filter_metadata/envoy.lb/hash_key");
            let address = address(&endpoint["endpoint"]["address"])?;
            let at = (priority, place.clone(), address);
            keys.entry(at)
                .or_default()
                .push_back(key.map(text).unwrap_or_default());
        }
        let weight = group.get("load_balancing_weight").and_then(Value::as_u64);
        localities.push(Locality {
            priority,
            place,
            weight,
        });
    }
    let statuses = hosts
        .pointer("/cluster_statuses/0")
        .context("no such cluster")?;
    let statuses = statuses["host_statuses"].as_array().unwrap_or(&empty);
    let hosts = statuses.iter().map(|status| {
        let mut host = Host::read(status, priority(status)?, place(&status["locality"]))?;
        let at = (host.priority, host.place.clone(), host.address.clone());
        let keys = keys.get_mut(&at).and_then(VecDeque::pop_front);
        host.hash_key = keys.with_context(|| format!("{} has no endpoint", host.address))?;
        Ok(host)
    });
    Ok((hosts.collect::<Result<_>>()?, localities))
}

fn priority(of: &Value) -> Result<usize> {
    Ok(usize::try_from(of["priority"].as_u64().unwrap_or(0))?)
}

fn place(locality: &Value) -> [String; 3] {
    ["region", "zone", "sub_zone"].map(|part| text(&locality[part]))
}

/// Empty for anything but a string.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn address(address: &Value) -> Result<String> {
    if let Some(path) = address.pointer("/pipe/path") {
        return Ok(text(path));
    }
    if let Some(internal) = address.get("envoy_internal_address") {
        let listener = text(&internal["server_listener_name"]);
        return Ok(format!(
            "envoy://{listener}/{}",
            text(&internal["endpoint_id"])
        ));
    }
    let socket = &address["socket_address"];
    let (ip, port) = (
        text(&socket["address"]),
        socket["port_value"].as_u64().context("no port")?,
    );
    Ok(if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    })
}
