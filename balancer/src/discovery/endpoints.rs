//! `/config_dump` of endpoints → what the page of `/clusters` lacks: the localities of each
//! priority with their weights, and the hash keys of hosts.

use unitring_routing::names::Names;

use super::DiscoveryError;
use crate::json::{self, Json, JsonError};

/// The endpoints of a cluster, as Envoy was told them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// In Envoy's order, priority by priority.
    pub localities: Vec<LocalityEndpoints>,
    /// `policy.overprovisioning_factor`, in percent.
    pub overprovisioning_factor: Option<u32>,
}

/// One locality of one priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalityEndpoints {
    /// Its priority; 0 is used first.
    pub priority: u32,
    /// As [`super::page::Host::locality`].
    pub name: String,
    /// `load_balancing_weight`; 0 if it is not set.
    pub weight: u32,
    /// The address and the hash key of each host, in Envoy's order; empty if no host of the
    /// locality has a hash key.
    pub hosts: Vec<(String, Option<String>)>,
}

const FIELDS: [&str; 26] = [
    "configs",
    "endpoint_config",
    "endpoints",
    "locality",
    "region",
    "zone",
    "sub_zone",
    "lb_endpoints",
    "endpoint",
    "address",
    "socket_address",
    "port_value",
    "pipe",
    "path",
    "envoy_internal_address",
    "server_listener_name",
    "endpoint_id",
    "metadata",
    "filter_metadata",
    "envoy.lb",
    "hash_key",
    "load_balancing_weight",
    "priority",
    "policy",
    "overprovisioning_factor",
    "cluster_name",
];

/// Reads the answer; `None` if Envoy knows no endpoints of that name.
///
/// # Errors
/// If the answer has another form than Envoy's.
pub fn read(body: &[u8]) -> Result<Option<Endpoints>, DiscoveryError> {
    let answer = json::read(body, &FIELDS)?;
    let configs = answer.list("configs")?.unwrap_or_default();
    let Some(config) = configs.first() else {
        return Ok(None);
    };
    let Some(config) = config.field("endpoint_config")? else {
        return Ok(None);
    };
    let localities = config.list("endpoints")?.unwrap_or_default();
    let factor = match config.field("policy")? {
        Some(policy) => policy.number("overprovisioning_factor")?,
        None => None,
    };
    Ok(Some(Endpoints {
        localities: localities.iter().map(locality).collect::<Result<_, _>>()?,
        overprovisioning_factor: factor,
    }))
}

fn locality(json: &Json) -> Result<LocalityEndpoints, JsonError> {
    let mut name = String::new();
    let locality = json.field("locality")?;
    for part in ["region", "zone", "sub_zone"] {
        let text = match locality {
            Some(locality) => locality.text(part)?,
            None => None,
        };
        name.push_str(text.unwrap_or_default());
        name.push('\n');
    }
    let hosts = json.list("lb_endpoints")?.unwrap_or_default();
    let hosts: Vec<_> = hosts.iter().map(host).collect::<Result<_, _>>()?;
    // Most localities have no keys at all, so their hosts need no memory.
    let has_keys = hosts.iter().any(|(_, key)| key.is_some());
    Ok(LocalityEndpoints {
        priority: json.number("priority")?.unwrap_or(0),
        name,
        weight: json.number("load_balancing_weight")?.unwrap_or(0),
        hosts: if has_keys { hosts } else { Vec::new() },
    })
}

fn host(json: &Json) -> Result<(String, Option<String>), JsonError> {
    let address = match json.field("endpoint")? {
        Some(endpoint) => endpoint.field("address")?,
        None => None,
    };
    let address = match address {
        Some(address) => self::address(address)?,
        None => String::new(),
    };
    Ok((address, hash_key(json)))
}

/// The address as the page of `/clusters` writes it.
fn address(json: &Json) -> Result<String, JsonError> {
    if let Some(socket) = json.field("socket_address")? {
        let ip = socket.text("address")?.unwrap_or_default();
        let port: u32 = socket.number("port_value")?.unwrap_or(0);
        return Ok(if ip.contains(':') {
            format!("[{ip}]:{port}")
        } else {
            format!("{ip}:{port}")
        });
    }
    if let Some(internal) = json.field("envoy_internal_address")? {
        let listener = internal.text("server_listener_name")?.unwrap_or_default();
        let endpoint = internal.text("endpoint_id")?.unwrap_or_default();
        return Ok(format!("envoy://{listener}/{endpoint}"));
    }
    let path = match json.field("pipe")? {
        Some(pipe) => pipe.text("path")?,
        None => None,
    };
    Ok(path.unwrap_or_default().to_owned())
}

/// Envoy uses the key only if it is a non-empty string, so any other value is no error.
fn hash_key(json: &Json) -> Option<String> {
    let metadata = json.field("metadata").ok()??;
    let metadata = metadata.field("filter_metadata").ok()??;
    let key = metadata.field("envoy.lb").ok()??.text("hash_key").ok()??;
    (!key.is_empty()).then(|| key.to_owned())
}

/// Finds the page's hosts among the endpoints.
#[derive(Debug)]
pub(super) struct Index<'a> {
    endpoints: &'a Endpoints,
    localities: Names<'a>,
    /// Per locality: its hosts with keys, and for each repeated address the last one that was asked
    /// for.
    hosts: Vec<(Names<'a>, Vec<(&'a str, usize)>)>,
    /// Per priority: the sum of its localities' weights.
    sums: Vec<u64>,
}

impl<'a> Index<'a> {
    pub(super) fn new(endpoints: &'a Endpoints) -> Self {
        let all = &endpoints.localities;
        let mut sums: Vec<u64> = Vec::new();
        for locality in all {
            let at = usize::try_from(locality.priority)
                .unwrap_or(usize::MAX)
                .min(1 << 10);
            if sums.len() <= at {
                sums.resize(at + 1, 0);
            }
            if let Some(sum) = sums.get_mut(at) {
                *sum = sum.saturating_add(locality.weight.into());
            }
        }
        let names = |locality: &'a LocalityEndpoints| {
            let addresses = locality.hosts.iter().map(|(address, _)| address.as_str());
            (Names::of(addresses), Vec::new())
        };
        Self {
            endpoints,
            localities: Names::of(all.iter().map(|locality| locality.name.as_str())),
            hosts: all.iter().map(names).collect(),
            sums,
        }
    }

    /// The index of the locality of this name in this priority.
    pub(super) fn place(&self, priority: u32, name: &str) -> Option<usize> {
        let mut places = self.localities.places(name);
        places.find(|at| {
            let locality = self.endpoints.localities.get(*at);
            locality.is_some_and(|locality| locality.priority == priority)
        })
    }

    /// The weight of a locality, and the sum over its priority.
    pub(super) fn weight(&self, place: usize) -> Option<(u32, u64)> {
        let locality = self.endpoints.localities.get(place)?;
        let sum = usize::try_from(locality.priority).ok()?;
        Some((locality.weight, *self.sums.get(sum)?))
    }

    /// The hash key of a host of a locality. Each call for a repeated address returns the key of
    /// its next host.
    pub(super) fn next_key(&mut self, place: usize, address: &str) -> Option<&'a str> {
        let locality = self.endpoints.localities.get(place)?;
        let (names, asked) = self.hosts.get_mut(place)?;
        let nth = match asked.iter_mut().find(|(other, _)| *other == address) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                // Only repeated addresses need a count.
                let first = names.first(address)?;
                if names.is_repeated(address) {
                    let (address, _) = locality.hosts.get(first)?;
                    asked.push((address, 0));
                }
                0
            }
        };
        let at = names.places(address).nth(nth)?;
        locality.hosts.get(at)?.1.as_deref()
    }
}
