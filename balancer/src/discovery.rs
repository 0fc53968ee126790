//! Answers of Envoy or of the companion's registry about a service → its members, and how its cluster
//! places requests.
//!
//! | module | what |
//! |---|---|
//! | [`paths`] | a service → the paths to ask |
//! | [`page`] | `/clusters` → hosts, their health, their counts |
//! | [`endpoints`] | `/config_dump` → localities and hash keys, which `/clusters` lacks |
//! | [`cluster`] | `/config_dump` → how the cluster's policy places, and its thresholds |
//! | [`routes`] | `/config_dump` → how routes hash and retry |
//! | [`runtime`] | `/runtime` → what takes precedence over the cluster's configuration |
//! | [`statuses`] | `/stats` → which errors of hosts were answers of working hosts |
//! | [`look`] | which question comes next; all answers → what they say of a service |
//! | [`registry`] | the companion's registry → members |
//!
//! The order of hosts is Envoy's, since Envoy's fill of the ring depends on it. `unitring_routing`
//! decides from these findings which priority and which hosts take a key.

pub mod cluster;
mod config;
pub mod endpoints;
mod found;
pub mod look;
mod pace;
pub mod page;
pub mod paths;
pub mod registry;
mod reply;
pub mod routes;
pub mod runtime;
pub mod statuses;

use crate::json::JsonError;
use crate::settings::INSTANCES_MAX;

/// Why an answer is unusable. The last findings stay in force.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// There was no answer in time, or an error in its place.
    #[error("the admin interface did not answer")]
    NoAnswer,
    /// The answer to `/clusters` has another form than Envoy's.
    #[error("the admin interface did not answer with clusters: {0}")]
    NoPage(&'static str),
    /// The answer to `/config_dump` has another form than Envoy's.
    #[error("the admin interface did not answer with its configuration: {0}")]
    NoConfig(#[from] JsonError),
    /// The answer to `/stats` has another form than Envoy's.
    #[error("the admin interface did not answer with stats: {0}")]
    NoStats(&'static str),
    /// The companion's answer is no registry.
    #[error("the companion did not answer with its registry: {0}")]
    NoRegistry(JsonError),
    /// Envoy has no such cluster, or no longer has it.
    #[error("Envoy has no cluster named {0}")]
    NoCluster(String),
    /// More hosts than [`INSTANCES_MAX`].
    #[error("cluster has {0} hosts, more than {INSTANCES_MAX}")]
    TooMany(usize),
}

#[cfg(test)]
mod tests;
