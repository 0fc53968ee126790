//! The content of a table → a number that identifies it.

use super::Rule;
use super::level::Level;
use crate::hash::{HashFunction, xxh64_seeded};
use crate::membership::{Locality, Member};
use crate::ring::Shape;

/// Equal for equal hosts in equal order under an equal rule. Priorities and weights of localities
/// are left out for a service without them, so that its versions equal those of older filters.
pub(super) fn of(hosts: &[Member], levels: &[Level], rule: &Rule) -> u64 {
    let mut hash = 0;
    let mut add = |bytes: &[u8]| hash = xxh64_seeded(bytes, hash);
    for number in shape(rule.shape) {
        add(&number.to_le_bytes());
    }
    for host in hosts {
        add(host.name(rule.identity).as_bytes());
        add(&host.effective_weight().get().to_le_bytes());
        if let Some(Locality { index, weight, all }) = host.locality {
            for number in [index.into(), weight.into(), all] {
                add(&u64::to_le_bytes(number));
            }
        }
    }
    if levels.len() > 1 {
        for level in levels {
            let load = level.load;
            for number in [level.priority, load.healthy, load.degraded] {
                add(&number.to_le_bytes());
            }
        }
    }
    hash
}

fn shape(shape: Shape) -> [u64; 4] {
    let hash = |hash| match hash {
        HashFunction::XxHash64 => 0,
        HashFunction::Murmur2 => 1,
    };
    match shape {
        Shape::Envoy {
            hash: function,
            min_size,
            max_size,
        } => [0, hash(function), min_size, max_size],
        Shape::Fixed {
            hash: function,
            virtual_nodes,
            max_size,
        } => [1, hash(function), virtual_nodes.get().into(), max_size],
        Shape::Maglev { table_size } => [2, 0, table_size.get().into(), 0],
    }
}
