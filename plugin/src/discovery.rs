//! What Envoy, or the companion's registry, says of a service → its members, and how its cluster places.
//!
//! | module | what |
//! |---|---|
//! | [`paths`] | a service → the questions |
//! | [`page`] | `/clusters` → hosts, their health, what they carry |
//! | [`endpoints`] | `/config_dump` → localities and hash keys, which the page lacks |
//! | [`cluster`] | `/config_dump` → how the cluster's policy places, and its thresholds |
//! | [`routes`] | `/config_dump` → how routes hash and retry |
//! | [`look`] | which question comes next, and what all answers say together |
//! | [`registry`] | the companion's registry → members |
//!
//! Envoy's order of hosts is kept, since its fill of the ring depends on it. Which priority and which hosts
//! take a key is decided in `unitring_routing`, by what is found here.

pub mod cluster;
pub mod endpoints;
pub mod look;
pub mod page;
pub mod paths;
pub mod registry;
pub mod routes;

use crate::json::JsonError;
use crate::settings::INSTANCES_MAX;

/// Why an answer is of no use. What was found last stays in force.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The page is not what Envoy answers.
    #[error("the admin interface did not answer with clusters: {0}")]
    NoPage(&'static str),
    /// The configuration is not what Envoy answers.
    #[error("the admin interface did not answer with its configuration: {0}")]
    NoConfig(#[from] JsonError),
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

#[cfg(test)]
mod tests;
