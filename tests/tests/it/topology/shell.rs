//! The shell of the balancer in a world, and what a cluster has as its policy for it.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::model::whole_percent;
use super::policy::{Kind, Policy};
use crate::differential::native;

#[derive(Debug, Clone, Serialize)]
pub(super) enum Shell {
    /// The filter: the clusters have Envoy's policies.
    Filter,
    /// The native module in this file, which is the policy of each cluster.
    Native(PathBuf),
}

impl Shell {
    /// The field `load_balancing_policy` of a cluster.
    pub(super) fn policy(&self, cluster: &Cluster) -> Value {
        match self {
            Self::Filter => cluster.policy.config(),
            Self::Native(module) => {
                let policy = native::policy(module, &settings(cluster));
                let policy = json!({"policies": [{"typed_extension_config": policy}]});
                cluster.policy.within_override(policy)
            }
        }
    }

    /// A random policy, without what the module is not told.
    pub(super) fn without_untold(&self, policy: Policy) -> Policy {
        match self {
            Self::Filter => policy,
            // The interface for modules has no hostnames.
            Self::Native(_) => Policy {
                by_hostname: None,
                ..policy
            },
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Native(_) => "native",
        }
    }

    pub(super) fn is_native(&self) -> bool {
        matches!(self, Self::Native(_))
    }
}

/// The module's settings for the policy that it stands for. It is not told those of its cluster.
fn settings(cluster: &Cluster) -> Value {
    let mut ring = json!({"locality_weights": cluster.policy.by_locality});
    match &cluster.policy.kind {
        Kind::Ring {
            hash_function,
            min_size,
            max_size,
        } => {
            ring["algorithm"] = json!("ring_hash");
            ring["hash"] = match hash_function {
                Some("MURMUR_HASH_2") => json!("murmur_hash_2"),
                _ => json!("xx_hash"),
            };
            set(&mut ring, "min_size", *min_size);
            set(&mut ring, "max_size", *max_size);
        }
        Kind::Maglev { table_size } => {
            ring["algorithm"] = json!("maglev");
            set(&mut ring, "table_size", *table_size);
        }
    }
    let mut health = json!({"weighted_priority_health": cluster.weighted_priority_health});
    set(
        &mut health,
        "panic_threshold",
        cluster.panic_percent.map(whole_percent),
    );
    set(
        &mut health,
        "overprovisioning_factor",
        cluster.overprovisioning,
    );
    json!({
        "service": cluster.name,
        "ring": ring,
        "health": health,
        // The owner alone is compared, however many requests it has.
        "load": {"balance_factor": 0},
    })
}

/// A field that is not set is left to the module's default.
fn set(section: &mut Value, field: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        section[field] = json!(value);
    }
}
