//! The settings, Envoy's configuration of the cluster, and its instances → how requests are placed,
//! or why Envoy's own policy places all of them.
//!
//! Where the settings say nothing, Envoy's configuration applies. A setting that differs from it is
//! used.

use unitring_routing::health::{HealthRule, priority_loads};
use unitring_routing::maglev;
use unitring_routing::membership::{Identity, Member};
use unitring_routing::ring::{POINTS_MAX, Shape};
use unitring_routing::table::Rule;

use crate::discovery::cluster::{Cluster, Fallback};
use crate::discovery::look::Found;
use crate::settings::{Algorithm, Health, Ring, Settings};

/// Why Envoy's own policy places every request of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftAll {
    /// The cluster has subsets, and only Envoy knows which of them a request is for.
    Subsets,
    /// The cluster has several priorities or localities, and Envoy does not show its configuration.
    UnknownConfig,
    /// The cluster is by EDS, so Envoy does not show whether health is counted by weight, and now
    /// that would make a difference.
    UnknownWeighting,
    /// Envoy does not show its runtime, which may set the panic threshold, and now that would make a
    /// difference.
    UnknownRuntime,
}

impl LeftAll {
    /// The text for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            LeftAll::Subsets => "the cluster has subsets",
            LeftAll::UnknownConfig => {
                "the cluster has several priorities or localities, and Envoy does not show its \
                 configuration: allow /config_dump"
            }
            LeftAll::UnknownWeighting => {
                "the cluster is by EDS, and the filter cannot see whether its health is counted by weight: \
                 set health.weighted_priority_health"
            }
            LeftAll::UnknownRuntime => {
                "Envoy's runtime may set the panic threshold, and Envoy does not show it: allow /runtime, or set \
                 health.panic_threshold"
            }
        }
    }
}

/// How requests are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placing {
    /// The rule of the table.
    pub rule: Rule,
    /// Why Envoy places the requests instead; `None` if the filter does.
    pub left: Option<LeftAll>,
}

impl Placing {
    /// The placing for a source of instances that says nothing of Envoy's cluster.
    pub fn unasked(settings: &Settings) -> Self {
        Self {
            rule: settings.rule,
            left: None,
        }
    }

    /// The placing that Envoy would use for these instances, which health has judged.
    pub fn of(settings: &Settings, found: &Found, members: &[Member]) -> Self {
        let Some(cluster) = &found.cluster else {
            let is_plain = found.knows_localities && !has_several_priorities(members);
            return Self {
                rule: Rule {
                    health: health(&settings.health, found, &Cluster::default()),
                    ..settings.rule
                },
                left: (!is_plain).then_some(LeftAll::UnknownConfig),
            };
        };
        let rule = Rule {
            shape: shape(&settings.ring, &cluster.policy.fallback),
            identity: settings.ring.identity.unwrap_or(Identity::Address),
            health: health(&settings.health, found, cluster),
        };
        let left = if cluster.policy.has_subsets {
            Some(LeftAll::Subsets)
        } else if !found.knows_localities {
            Some(LeftAll::UnknownConfig)
        } else {
            left_for_health(settings, found, cluster, members, rule.health)
        };
        Self { rule, left }
    }
}

fn has_several_priorities(members: &[Member]) -> bool {
    members.iter().any(|member| member.priority > 0)
}

/// Why health that is not fully known leaves all to Envoy.
fn left_for_health(
    settings: &Settings,
    found: &Found,
    cluster: &Cluster,
    members: &[Member],
    rule: HealthRule,
) -> Option<LeftAll> {
    let own = &settings.health;
    if cluster.by_eds
        && own.weighted_priority_health.is_none()
        && depends_on_weighting(members, rule)
    {
        return Some(LeftAll::UnknownWeighting);
    }
    let is_unsure = found.hides_runtime && own.panic_threshold.is_none();
    (is_unsure && depends_on_threshold(members, rule)).then_some(LeftAll::UnknownRuntime)
}

fn depends_on_threshold(members: &[Member], rule: HealthRule) -> bool {
    let by = |panic_threshold| {
        let rule = HealthRule {
            panic_threshold,
            ..rule
        };
        priority_loads(members, &rule)
    };
    // A higher threshold makes no fewer priorities panic.
    by(0) != by(100)
}

fn depends_on_weighting(members: &[Member], rule: HealthRule) -> bool {
    let by = |weighted| priority_loads(members, &HealthRule { weighted, ..rule });
    // This matters with one priority, too: it may decide whether that priority panics.
    by(false) != by(true)
}

fn health(settings: &Health, found: &Found, cluster: &Cluster) -> HealthRule {
    let usual = HealthRule::default();
    let factor = settings
        .overprovisioning_factor
        .or(found.overprovisioning_factor)
        .or(cluster.overprovisioning_factor);
    HealthRule {
        panic_threshold: settings
            .panic_threshold
            .or(found.runtime.panic_threshold)
            .or(cluster.panic_threshold)
            .unwrap_or(usual.panic_threshold),
        overprovisioning_factor: factor.unwrap_or(usual.overprovisioning_factor),
        weighted: settings
            .weighted_priority_health
            .unwrap_or(cluster.weighted_priority_health),
    }
}

/// The shape of the ring, from the fallback policy where the settings say nothing.
fn shape(ring: &Ring, fallback: &Fallback) -> Shape {
    let is_maglev = match ring.algorithm {
        Some(algorithm) => algorithm == Algorithm::Maglev,
        None => matches!(fallback, Fallback::Maglev { .. }),
    };
    if is_maglev {
        let envoys = match fallback {
            Fallback::Maglev { table_size, .. } => *table_size,
            _ => None,
        };
        let size = ring.table_size.or(envoys);
        return Shape::Maglev {
            table_size: size.unwrap_or(maglev::USUAL_TABLE_SIZE),
        };
    }
    let (hash, least, most) = match fallback {
        Fallback::RingHash {
            hash,
            min_size,
            max_size,
            ..
        } => (Some(*hash), *min_size, *max_size),
        _ => (None, None, None),
    };
    let hash = ring.hash.or(hash).unwrap_or_default();
    let max_size = ring.max_size.or(most).unwrap_or(POINTS_MAX);
    match ring.virtual_nodes {
        Some(virtual_nodes) => Shape::Fixed {
            hash,
            virtual_nodes,
            max_size,
        },
        None => Shape::Envoy {
            hash,
            min_size: ring.min_size.or(least).unwrap_or(1024).min(max_size),
            max_size,
        },
    }
}

impl Ring {
    /// The rule if nothing is known of Envoy's cluster.
    pub(crate) fn rule(&self, health: &Health) -> Rule {
        Rule {
            shape: shape(self, &Fallback::Other),
            identity: self.identity.unwrap_or(Identity::Address),
            health: self::health(health, &Found::default(), &Cluster::default()),
        }
    }
}

/// Where the filter places keys differently from Envoy's cluster, as lines for the log.
pub fn contradictions(settings: &Settings, found: &Found) -> Vec<String> {
    let Some(cluster) = &found.cluster else {
        return Vec::new();
    };
    let settings_that_differ = placed_otherwise(settings, found, cluster);
    let mut lines: Vec<String> = settings_that_differ
        .iter()
        .map(|setting| {
            format!(
                "{setting} is not as in Envoy's cluster, so requests that are left to Envoy go elsewhere than the \
                 filter would send them"
            )
        })
        .collect();
    if let Some(factor) = cluster.policy.hash_balance_factor {
        lines.push(format!(
            "hash_balance_factor {factor} of the cluster bounds only what is left to Envoy, by the load of this \
             Envoy alone; the filter bounds by load.balance_factor"
        ));
    }
    lines
}

/// The settings by which the filter places keys differently.
fn placed_otherwise(settings: &Settings, found: &Found, cluster: &Cluster) -> Vec<&'static str> {
    let (ring, fallback) = (&settings.ring, &cluster.policy.fallback);
    let mut differing = Vec::new();
    if shape(ring, fallback) != shape(&Ring::default(), fallback) {
        differing.push("ring");
    }
    let by_hostname = fallback.hashing().by_hostname;
    if let Some(identity) = ring.identity
        && (found.has_hash_keys || (identity == Identity::Id) != by_hostname)
    {
        differing.push("ring.identity");
    }
    let (own, envoys) = (&settings.health, health(&Health::default(), found, cluster));
    if own
        .panic_threshold
        .is_some_and(|own| own != envoys.panic_threshold)
    {
        differing.push("health.panic_threshold");
    }
    if own
        .overprovisioning_factor
        .is_some_and(|own| own != envoys.overprovisioning_factor)
    {
        differing.push("health.overprovisioning_factor");
    }
    // Envoy does not show it for a cluster by EDS.
    if !cluster.by_eds
        && own
            .weighted_priority_health
            .is_some_and(|own| own != envoys.weighted)
    {
        differing.push("health.weighted_priority_health");
    }
    differing
}

#[cfg(test)]
mod tests;
