//! The policy of a cluster for each shell of the balancer.

use serde::Serialize;
use serde_json::{Value, json};
use unitring_tests::shell::Shell;

use super::cluster::Cluster;
use super::model::whole_percent;
use super::policy::{Kind, Policy};
use crate::differential::native;

/// The field `load_balancing_policy` of a cluster.
pub(super) fn policy(cluster: &Cluster) -> Value {
    match cluster.shell {
        Shell::Filter => cluster.policy.config(),
        Shell::Native => {
            let policy = native::policy(&settings(cluster)).expect("the module is built");
            let policy = json!({"policies": [{"typed_extension_config": policy}]});
            cluster.policy.within_override(policy)
        }
    }
}

/// A random policy, without what the module is not told.
pub(super) fn without_untold(shell: Shell, policy: Policy) -> Policy {
    match shell {
        Shell::Filter => policy,
        // The interface for modules has no hostnames.
        Shell::Native => Policy {
            by_hostname: None,
            ..policy
        },
    }
}

/// The part of a name that stands for the shell.
pub(super) fn name(shell: Shell) -> &'static str {
    match shell {
        Shell::Filter => "filter",
        Shell::Native => "native",
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
