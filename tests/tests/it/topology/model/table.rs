//! The ring or the table of the hosts that take keys.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;
use twox_hash::XxHash64;
use unitring_routing::hash::HashFunction;

use super::Owner;
use super::host::Host;

#[derive(Debug)]
pub(super) enum Shape {
    Ring {
        hash: HashFunction,
        min_size: u64,
        max_size: u64,
    },
    Maglev {
        size: u64,
    },
}

/// Owners by their place on the ring or in the table.
#[derive(Debug)]
pub(super) enum Table {
    Ring(Vec<(u64, Owner)>),
    Maglev(Vec<Owner>),
}

/// A host, the name that places it, and its fraction of the total.
type Placed<'a> = (&'a Host, &'a str, f64);

const SAME_NAMES: &str = "hosts of different addresses have the same name";

impl Shape {
    pub(super) fn read(policy: &Value) -> Result<Self> {
        // 64-bit numbers are strings in protobuf's JSON.
        let number = |name: &str, default| {
            let value = &policy[name];
            let text = value.as_str().and_then(|text| text.parse().ok());
            text.or(value.as_u64()).unwrap_or(default)
        };
        Ok(
            match policy["@type"]
                .as_str()
                .unwrap_or_default()
                .rsplit('.')
                .next()
            {
                Some("RingHash") => Self::Ring {
                    hash: match policy["hash_function"].as_str() {
                        Some("MURMUR_HASH_2") => HashFunction::Murmur2,
                        _ => HashFunction::XxHash64,
                    },
                    min_size: number("minimum_ring_size", 1_024),
                    max_size: number("maximum_ring_size", 8_388_608),
                },
                Some("Maglev") => Self::Maglev {
                    size: number("table_size", 65_537),
                },
                _ => bail!("no ring: {policy}"),
            },
        )
    }
}

impl Table {
    /// Builds the table from hosts with their names and fractions.
    pub(super) fn build(hosts: &[Placed<'_>], shape: &Shape) -> Self {
        match *shape {
            Shape::Ring {
                hash,
                min_size,
                max_size,
            } => ring(hosts, hash, min_size, max_size),
            Shape::Maglev { size } => maglev(hosts, size),
        }
    }

    pub(super) fn owner(&self, hash: u64) -> Owner {
        match self {
            Self::Ring(points) => {
                let at = points.partition_point(|(point, _)| *point < hash);
                let point = points.get(at).or(points.first());
                point.map_or(Owner::Nobody, |(_, owner)| owner.clone())
            }
            Self::Maglev(slots) => {
                let size = u64::try_from(slots.len()).expect("a size");
                let at = hash
                    .checked_rem(size)
                    .and_then(|at| usize::try_from(at).ok());
                at.map_or(Owner::Nobody, |at| slots[at].clone())
            }
        }
    }
}

fn ring(hosts: &[Placed<'_>], hash: HashFunction, min_size: u64, max_size: u64) -> Table {
    let least = hosts.iter().map(|(_, _, part)| *part).fold(1.0, f64::min);
    let scale = ((least * as_f64(min_size)).ceil() / least).min(as_f64(max_size));
    let mut points: BTreeMap<u64, Owner> = BTreeMap::new();
    let (mut current, mut target) = (0.0, 0.0);
    for (host, name, part) in hosts {
        target += scale * part;
        let mut number = 0;
        while current < target {
            let point = hash.hash(format!("{name}_{number}").as_bytes());
            let owner = points
                .entry(point)
                .or_insert_with(|| Owner::Host(host.address.clone()));
            // Envoy orders equal points by chance.
            if *owner != Owner::Host(host.address.clone()) {
                *owner = Owner::Unknown(SAME_NAMES);
            }
            number += 1;
            current += 1.0;
        }
    }
    Table::Ring(points.into_iter().collect())
}

fn maglev(hosts: &[Placed<'_>], size: u64) -> Table {
    if hosts.is_empty() {
        return Table::Maglev(Vec::new());
    }
    // Envoy orders equal names by pointers; with unequal fractions that affects all slots.
    let mut hosts = hosts.to_vec();
    hosts.sort_by_key(|(_, name, _)| *name);
    let are_even = alike(&hosts, |a, b| a.2 == b.2).all(|even| even);
    let owners = hosts
        .iter()
        .zip(alike(&hosts, |a, b| a.0.address == b.0.address));
    let owner_of = |((host, ..), is_one): (&Placed<'_>, bool)| {
        if are_even && is_one {
            Owner::Host(host.address.clone())
        } else {
            Owner::Unknown(SAME_NAMES)
        }
    };
    let owners: Vec<Owner> = owners.map(owner_of).collect();
    let greatest = hosts.iter().map(|(_, _, part)| *part).fold(0.0, f64::max);
    let mut places: Vec<(u64, u64, f64)> = hosts
        .iter()
        .map(|(_, name, _)| {
            let hash = |seed| XxHash64::oneshot(seed, name.as_bytes());
            (hash(0) % size, hash(1) % (size - 1) + 1, 0.0)
        })
        .collect();
    let mut slots: Vec<Option<Owner>> = vec![None; usize::try_from(size).expect("a size")];
    let (mut filled, mut round) = (0, 0.0);
    while filled < size {
        round += 1.0;
        for (number, (_, _, part)) in hosts.iter().enumerate() {
            let (next, skip, target) = &mut places[number];
            if filled == size || round * part < *target {
                continue;
            }
            *target += greatest;
            let mut at = usize::try_from(*next).expect("a place");
            while slots[at].is_some() {
                *next = (*next + *skip) % size;
                at = usize::try_from(*next).expect("a place");
            }
            slots[at] = Some(owners[number].clone());
            *next = (*next + *skip) % size;
            filled += 1;
        }
    }
    Table::Maglev(slots.into_iter().flatten().collect())
}

/// For each host, whether it is alike to every host of the same name.
fn alike<'a>(
    hosts: &'a [Placed<'_>],
    is_alike: fn(&Placed<'_>, &Placed<'_>) -> bool,
) -> impl Iterator<Item = bool> + 'a {
    hosts.iter().map(move |host| {
        let mut same = hosts.iter().filter(|other| other.1 == host.1);
        same.all(|other| is_alike(host, other))
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "weights and sizes are far below 2^53"
)]
pub(super) fn as_f64(value: u64) -> f64 {
    value as f64
}
