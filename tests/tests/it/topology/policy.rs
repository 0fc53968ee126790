//! The load-balancing policy of a cluster: a ring or a table, alone or as the fallback of the policy that
//! the filter's clusters have.

use serde::Serialize;
use serde_json::{Value, json};
use unitring_routing::maglev::is_prime;
use unitring_tests::traffic::keys::Numbers;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Policy {
    pub(super) kind: Kind,
    /// Within `override_host`, whose header no request here has.
    pub(super) is_fallback: bool,
    pub(super) by_hostname: Option<bool>,
    pub(super) by_locality: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(super) enum Kind {
    Ring {
        hash_function: Option<&'static str>,
        min_size: Option<u64>,
        max_size: Option<u64>,
    },
    Maglev {
        table_size: Option<u32>,
    },
}

/// Far more points than a ring needs without shrinking its shares, and few enough for many rings at once.
const MAX_SIZE: u64 = 20_000;

impl Policy {
    pub(super) fn random(numbers: &mut Numbers) -> Self {
        let kind = if numbers.below(10) < 6 {
            ring(numbers)
        } else {
            maglev(numbers)
        };
        Self {
            kind,
            is_fallback: numbers.below(3) == 0,
            by_hostname: numbers.pick(&[None, None, None, Some(false), Some(true)]),
            by_locality: numbers.below(3) == 0,
        }
    }

    /// The policy in Envoy's configuration, as Envoy's own.
    pub(super) fn config(&self) -> Value {
        let (name, message, mut fields) = match &self.kind {
            Kind::Ring {
                hash_function,
                min_size,
                max_size,
            } => {
                let mut fields = json!({});
                if let Some(size) = min_size {
                    fields["minimum_ring_size"] = json!(size);
                }
                if let Some(size) = max_size {
                    fields["maximum_ring_size"] = json!(size);
                }
                if let Some(function) = hash_function {
                    fields["hash_function"] = json!(function);
                }
                ("ring_hash", "RingHash", fields)
            }
            Kind::Maglev { table_size } => {
                let mut fields = json!({});
                if let Some(size) = table_size {
                    fields["table_size"] = json!(size);
                }
                ("maglev", "Maglev", fields)
            }
        };
        if let Some(by_hostname) = self.by_hostname {
            fields["consistent_hashing_lb_config"] =
                json!({"use_hostname_for_hashing": by_hostname});
        }
        if self.by_locality {
            fields["locality_weighted_lb_config"] = json!({});
        }
        self.within_override(typed(name, message, fields))
    }

    /// This policy, or `override_host` around it.
    pub(super) fn within_override(&self, policy: Value) -> Value {
        if !self.is_fallback {
            return policy;
        }
        let fields = json!({
            "override_host_sources": [{"header": "x-unitring-host"}],
            "fallback_policy": policy,
        });
        typed("override_host", "OverrideHost", fields)
    }
}

fn typed(name: &str, message: &str, mut fields: Value) -> Value {
    fields["@type"] = json!(format!(
        "type.googleapis.com/envoy.extensions.load_balancing_policies.{name}.v3.{message}"
    ));
    let name = format!("envoy.load_balancing_policies.{name}");
    json!({"policies": [{"typed_extension_config": {"name": name, "typed_config": fields}}]})
}

fn ring(numbers: &mut Numbers) -> Kind {
    let min_size = match numbers.below(5) {
        0 => Some(1),
        1 => Some(1 + numbers.below(64)),
        2 => Some(1 + numbers.below(3_000)),
        _ => None,
    };
    let least = min_size.unwrap_or(1_024);
    // Often fewer points than the shares need, so that the shares shrink.
    let max_size = match numbers.below(4) {
        0 => None,
        1 => Some(least),
        2 => Some(least + numbers.below(3_000)),
        _ => Some(MAX_SIZE),
    };
    let functions = [
        None,
        Some("DEFAULT_HASH"),
        Some("XX_HASH"),
        Some("MURMUR_HASH_2"),
    ];
    Kind::Ring {
        hash_function: numbers.pick(&functions),
        min_size,
        max_size,
    }
}

fn maglev(numbers: &mut Numbers) -> Kind {
    let least = match numbers.below(8) {
        // Some tables have more hosts than slots.
        0 => 2 + numbers.below(12),
        1 => return Kind::Maglev { table_size: None },
        _ => 2 + numbers.below(3_000),
    };
    let least = u32::try_from(least).expect("small");
    Kind::Maglev {
        table_size: (least..).find(|size| is_prime(*size)),
    }
}
