//! The content of a table → a number that names it.

use super::Rule;
use super::level::Level;
use crate::hash::{HashFunction, xxh64_chain};
use crate::membership::Member;
use crate::ring::Shape;

/// Equal for equal hosts in equal order under an equal rule. What a service with one priority and no
/// weights of localities does not have takes no part, so that its versions are those of older filters.
pub(super) fn of(hosts: &[Member], levels: &[Level], rule: &Rule) -> u64 {
    let shape = shape(rule.shape);
    let mut parts: Vec<Vec<u8>> = shape.iter().map(|n| n.to_le_bytes().to_vec()).collect();
    for host in hosts {
        parts.push(host.name(rule.identity).as_bytes().to_vec());
        parts.push(host.effective_weight().get().to_le_bytes().to_vec());
        if let Some(locality) = host.locality {
            let numbers = [
                u64::from(locality.index),
                locality.weight.into(),
                locality.all,
            ];
            parts.push(numbers.map(u64::to_le_bytes).concat());
        }
    }
    if levels.len() > 1 {
        for level in levels {
            let load = level.load;
            let numbers = [level.priority, load.healthy, load.degraded];
            parts.push(numbers.map(u32::to_le_bytes).concat());
        }
    }
    xxh64_chain(parts.iter().map(Vec::as_slice))
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
