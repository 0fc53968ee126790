//! A placement: the rule and the hosts, in Envoy's form and in the filter's.
//!
//! The addresses have no servers: the test only asks for Envoy's choice.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::num::NonZeroU32;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use unitring_routing::hash::HashFunction;
use unitring_routing::key::header_hash;
use unitring_routing::maglev::{TABLE_SIZE, is_prime};
use unitring_routing::membership::{Identity, Member};
use unitring_routing::ring::Shape;
use unitring_routing::table::{Rule, Table};
use unitring_tests::traffic::keys::Numbers;

use super::front::address;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Case {
    pub(super) ring: Ring,
    pub(super) hosts: Vec<Host>,
}

/// The section `ring` of the filter's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
pub(super) enum Ring {
    RingHash {
        hash: Hash,
        min_size: u64,
        max_size: u64,
    },
    Maglev {
        table_size: NonZeroU32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hash {
    #[serde(rename = "xx_hash")]
    Xx,
    #[serde(rename = "murmur_hash_2")]
    Murmur2,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Host {
    pub(super) address: String,
    pub(super) weight: NonZeroU32,
}

/// Far more points than a ring needs without shrinking its shares, and few enough for eighty rings at
/// once.
const MAX_SIZE: u64 = 50_000;

impl Case {
    /// A random placement: realistic ones and edge cases.
    pub(super) fn random(numbers: &mut Numbers) -> Result<Self> {
        let ring = if numbers.below(5) < 3 {
            random_ring(numbers)
        } else {
            random_maglev(numbers)?
        };
        Ok(Self {
            ring,
            hosts: random_hosts(numbers)?,
        })
    }

    /// The cluster of this name with Envoy's own policy; its hosts are in this many localities, which no policy here
    /// uses.
    pub(super) fn cluster(&self, name: &str, localities: usize) -> Result<Value> {
        self.cluster_with(self.ring.policy(), name, localities)
    }

    /// The same with this policy.
    pub(super) fn cluster_with(
        &self,
        policy: Value,
        name: &str,
        localities: usize,
    ) -> Result<Value> {
        let hosts = self.hosts.chunks(self.hosts.len().div_ceil(localities));
        let endpoints = hosts.enumerate().map(|(zone, hosts)| {
            let endpoints: Result<Value> = hosts.iter().map(Host::endpoint).collect();
            Ok(json!({"locality": {"zone": format!("{zone}")}, "lb_endpoints": endpoints?}))
        });
        let endpoints: Result<Value> = endpoints.collect();
        Ok(json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_balancing_policy": {"policies": [{"typed_extension_config": policy}]},
            "load_assignment": {"cluster_name": name, "endpoints": endpoints?},
        }))
    }

    /// The table by which the filter chooses.
    pub(super) fn table(&self) -> Result<Table> {
        let member = |host: &Host| Member {
            weight: host.weight,
            ..Member::new(&host.address, &host.address)
        };
        let members: Vec<Member> = self.hosts.iter().map(member).collect();
        let rule = Rule::new(self.ring.shape(), Identity::Address);
        Ok(Table::build(&members, rule)?)
    }
}

/// The owner in the table for this value of the key header.
pub(super) fn owner<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    let hash = header_hash(&mut [key.as_bytes()])?;
    let host = table.host(table.owner(hash)?)?;
    Some(&host.address)
}

impl Host {
    fn endpoint(&self) -> Result<Value> {
        let (ip, port) = self.address.rsplit_once(':').context("no port")?;
        let address = address(ip.trim_matches(['[', ']']), port.parse()?);
        Ok(json!({
            "endpoint": {"address": address},
            "load_balancing_weight": self.weight,
        }))
    }
}

impl Ring {
    fn policy(&self) -> Value {
        let (name, package, fields) = match self {
            Ring::RingHash {
                hash,
                min_size,
                max_size,
            } => {
                let function = match hash {
                    Hash::Xx => "XX_HASH",
                    Hash::Murmur2 => "MURMUR_HASH_2",
                };
                let fields = json!({
                    "hash_function": function,
                    "minimum_ring_size": min_size,
                    "maximum_ring_size": max_size,
                });
                ("RingHash", "ring_hash", fields)
            }
            Ring::Maglev { table_size } => ("Maglev", "maglev", json!({"table_size": table_size})),
        };
        let mut config = fields;
        config["@type"] = json!(format!(
            "type.googleapis.com/envoy.extensions.load_balancing_policies.{package}.v3.{name}"
        ));
        json!({"name": format!("envoy.load_balancing_policies.{package}"), "typed_config": config})
    }

    fn shape(&self) -> Shape {
        match *self {
            Ring::RingHash {
                hash,
                min_size,
                max_size,
            } => Shape::Envoy {
                hash: match hash {
                    Hash::Xx => HashFunction::XxHash64,
                    Hash::Murmur2 => HashFunction::Murmur2,
                },
                min_size,
                max_size,
            },
            Ring::Maglev { table_size } => Shape::Maglev { table_size },
        }
    }
}

fn random_ring(numbers: &mut Numbers) -> Ring {
    let hash = if numbers.below(2) == 0 {
        Hash::Xx
    } else {
        Hash::Murmur2
    };
    let min_size = match numbers.below(4) {
        0 => 1,
        1 => 1 + numbers.below(64),
        2 => 1 + numbers.below(3_000),
        _ => 1_024,
    };
    // Often fewer points than the shares need, so that the shares shrink.
    let max_size = match numbers.below(3) {
        0 => MAX_SIZE,
        1 => min_size,
        _ => min_size + numbers.below(3_000),
    };
    Ring::RingHash {
        hash,
        min_size,
        max_size,
    }
}

fn random_maglev(numbers: &mut Numbers) -> Result<Ring> {
    let least = match numbers.below(4) {
        // Some tables have more hosts than slots.
        0 => 2 + numbers.below(30),
        1 => u64::from(TABLE_SIZE),
        _ => 2 + numbers.below(20_000),
    };
    let prime = (u32::try_from(least)?..).find(|size| is_prime(*size));
    let table_size = prime.and_then(NonZeroU32::new).context("no prime")?;
    Ok(Ring::Maglev { table_size })
}

/// Whether this machine has a server at this port, which may answer in any way.
fn is_taken(port: u16) -> bool {
    let bound = TcpListener::bind(("127.0.0.1", port));
    bound.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn random_hosts(numbers: &mut Numbers) -> Result<Vec<Host>> {
    let count = usize::try_from(1 + numbers.below(12))?;
    let mut addresses = BTreeSet::new();
    while addresses.len() < count {
        // Below the ports of the harness's servers, and often on a shared IP address.
        let (port, host) = (1 + numbers.below(9_000), 1 + numbers.below(12));
        let range = numbers.below(4) * 80;
        if is_taken(u16::try_from(port)?) {
            continue;
        }
        addresses.insert(match numbers.below(5) {
            0 => format!("[::1]:{port}"),
            _ => format!("127.{range}.0.{host}:{port}"),
        });
    }
    let mut addresses: Vec<String> = addresses.into_iter().collect();
    numbers.shuffle(&mut addresses);
    // All weights equal, some equal, or far apart.
    let greatest = numbers.pick(&[1, 3, 10, 1_000, 300_000_000]);
    let hosts = addresses.into_iter().map(|address| {
        let weight = u32::try_from(1 + numbers.below(greatest))?;
        let weight = NonZeroU32::new(weight).context("zero")?;
        Ok(Host { address, weight })
    });
    hosts.collect()
}
