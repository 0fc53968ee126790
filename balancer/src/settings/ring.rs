//! `ring`: how instances are placed. A field that is not set follows the cluster's own policy.

use std::num::NonZeroU32;

use unitring_routing::hash::HashFunction;
use unitring_routing::maglev;
use unitring_routing::membership::Identity;
use unitring_routing::ring::POINTS_MAX;

use super::reader::{Section, SettingsError};
use crate::json::Json;

const VIRTUAL_NODES_MAX: u64 = 65_536;

/// How instances are placed, as far as the settings say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ring {
    /// `ring_hash` or `maglev`; `None` follows the cluster.
    pub algorithm: Option<Algorithm>,
    /// Hash function of ring points.
    pub hash: Option<HashFunction>,
    /// Points of an instance of weight 1; `None` for Envoy's own number of points.
    pub virtual_nodes: Option<NonZeroU32>,
    /// The least number of points.
    pub min_size: Option<u64>,
    /// The greatest number of points.
    pub max_size: Option<u64>,
    /// Slots of Maglev's table, a prime.
    pub table_size: Option<NonZeroU32>,
    /// Whether an instance is placed by its address or by its id.
    pub identity: Option<Identity>,
    /// Whether the weights of localities count, as with `locality_weighted_lb_config`. The filter reads it from
    /// the cluster; a policy is not told.
    pub locality_weights: Option<bool>,
}

/// The algorithms that place instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Envoy's `RING_HASH`.
    RingHash,
    /// Envoy's `MAGLEV`.
    Maglev,
}

#[derive(Clone, Copy)]
enum Fill {
    Envoy,
    Fixed,
}

const OF_RINGS: [&str; 5] = ["hash", "fill", "min_size", "max_size", "virtual_nodes"];

pub(super) fn read(mut section: Section) -> Result<Ring, SettingsError> {
    let algorithms = [
        ("ring_hash", Some(Algorithm::RingHash)),
        ("maglev", Some(Algorithm::Maglev)),
    ];
    let identities = [
        ("address", Some(Identity::Address)),
        ("id", Some(Identity::Id)),
    ];
    let algorithm = section.word("algorithm", None, &algorithms);
    let identity = section.word("identity", None, &identities);
    let locality_weights = section.optional_boolean("locality_weights");
    let mut ring = match algorithm {
        Some(Algorithm::Maglev) => {
            section.refuse(&OF_RINGS, "has no effect with algorithm maglev")?;
            table(&mut section)?
        }
        _ => {
            section.refuse(&["table_size"], "applies to algorithm maglev only")?;
            ring_hash(&mut section)
        }
    };
    ring.algorithm = algorithm.or(ring.algorithm);
    ring.identity = identity;
    ring.locality_weights = locality_weights;
    section.finish()?;
    Ok(ring)
}

fn ring_hash(section: &mut Section) -> Ring {
    // A setting that says how to fill a ring asks for a ring, whatever the cluster falls back to.
    let wants_one = OF_RINGS.iter().any(|field| section.has(field));
    let hashes = [
        ("xx_hash", Some(HashFunction::XxHash64)),
        ("murmur_hash_2", Some(HashFunction::Murmur2)),
    ];
    let fills = [("envoy", Fill::Envoy), ("fixed", Fill::Fixed)];
    let hash = section.word("hash", None, &hashes);
    let fill = section.word("fill", Fill::Envoy, &fills);
    let max_size = section.optional("max_size", 1..=POINTS_MAX);
    let min_size = section.optional("min_size", 1..=max_size.unwrap_or(POINTS_MAX));
    let virtual_nodes = positive(section.integer("virtual_nodes", 160, 1..=VIRTUAL_NODES_MAX));
    Ring {
        algorithm: wants_one.then_some(Algorithm::RingHash),
        hash,
        virtual_nodes: match fill {
            Fill::Envoy => None,
            Fill::Fixed => Some(virtual_nodes),
        },
        min_size,
        max_size,
        ..Ring::default()
    }
}

fn table(section: &mut Section) -> Result<Ring, SettingsError> {
    let size = section.optional("table_size", 2..=u64::from(maglev::TABLE_SIZE_MAX));
    let table_size = size.map(positive);
    if let (Some(number), Some(size)) = (size, table_size)
        && !maglev::is_prime(size.get())
    {
        let rule = "must be a prime number, as 65537";
        return Err(section.error("table_size", &Json::from(number), rule));
    }
    Ok(Ring {
        table_size,
        ..Ring::default()
    })
}

/// Converts a number whose range was checked.
fn positive(number: u64) -> NonZeroU32 {
    u32::try_from(number)
        .ok()
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN)
}
