//! `ring`: how instances are placed.

use std::num::NonZeroU32;

use unitring_routing::hash::HashFunction;
use unitring_routing::maglev;
use unitring_routing::membership::Identity;
use unitring_routing::ring::{POINTS_MAX, Shape};
use unitring_routing::table::Rule;

use super::reader::{Section, SettingsError};
use crate::json::Json;

const VIRTUAL_NODES_MAX: u64 = 65_536;

#[derive(Clone, Copy)]
enum Algorithm {
    RingHash,
    Maglev,
}

#[derive(Clone, Copy)]
enum Fill {
    Envoy,
    Fixed,
}

pub(super) fn read(mut ring: Section) -> Result<Rule, SettingsError> {
    let algorithms = [
        ("ring_hash", Algorithm::RingHash),
        ("maglev", Algorithm::Maglev),
    ];
    let identities = [("address", Identity::Address), ("id", Identity::Id)];
    let algorithm = ring.word("algorithm", Algorithm::RingHash, &algorithms, &[]);
    let identity = ring.word("identity", Identity::Address, &identities, &[]);
    let shape = match algorithm {
        Algorithm::RingHash => {
            ring.refuse(&["table_size"], "has a meaning with algorithm maglev only")?;
            ring_hash(&mut ring)?
        }
        Algorithm::Maglev => {
            let of_rings = ["hash", "fill", "min_size", "max_size", "virtual_nodes"];
            ring.refuse(&of_rings, "has no meaning with algorithm maglev")?;
            table(&mut ring)?
        }
    };
    ring.finish()?;
    Ok(Rule::new(shape, identity))
}

fn ring_hash(ring: &mut Section) -> Result<Shape, SettingsError> {
    let hashes = [
        ("xx_hash", HashFunction::XxHash64),
        ("murmur_hash_2", HashFunction::Murmur2),
    ];
    let fills = [("envoy", Fill::Envoy), ("fixed", Fill::Fixed)];
    let hash = ring.word("hash", HashFunction::XxHash64, &hashes, &[]);
    let fill = ring.word("fill", Fill::Envoy, &fills, &[]);
    let max_size = ring.integer("max_size", POINTS_MAX, 1..=POINTS_MAX);
    let min_size = ring.integer("min_size", 1024.min(max_size), 1..=max_size);
    let virtual_nodes = ring.integer("virtual_nodes", 160, 1..=VIRTUAL_NODES_MAX);
    Ok(match fill {
        Fill::Envoy => Shape::Envoy {
            hash,
            min_size,
            max_size,
        },
        Fill::Fixed => Shape::Fixed {
            hash,
            virtual_nodes: positive(virtual_nodes),
            max_size,
        },
    })
}

fn table(ring: &mut Section) -> Result<Shape, SettingsError> {
    let (default, max) = (maglev::TABLE_SIZE, maglev::TABLE_SIZE_MAX);
    let size = ring.integer("table_size", u64::from(default), 2..=u64::from(max));
    let table_size = positive(size);
    if !maglev::is_prime(table_size.get()) {
        let rule = "must be a prime number, as 65537";
        return Err(ring.error("table_size", &Json::from(size), rule));
    }
    Ok(Shape::Maglev { table_size })
}

/// For numbers whose range was checked.
fn positive(number: u64) -> NonZeroU32 {
    u32::try_from(number)
        .ok()
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN)
}
