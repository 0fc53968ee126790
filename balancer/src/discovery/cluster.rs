//! `/config_dump` of a cluster → how its policy places requests, and its thresholds.
//!
//! A number that is not set is `None` and stands for Envoy's default.

use std::num::NonZeroU32;

use unitring_routing::hash::HashFunction;

use super::DiscoveryError;
use super::routes::{self, HashSource};
use crate::json::{self, Json, JsonError};

/// The configuration of a cluster, as far as the filter uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its name in Envoy's own stats, if that is not made of its name.
    pub stat_name: Option<String>,
    /// Whether its hosts come by EDS. Its endpoints may then set `weighted_priority_health`, which
    /// Envoy does not show.
    pub by_eds: bool,
    /// `healthy_panic_threshold`, as the whole percentage that Envoy derives from it.
    pub panic_threshold: Option<u32>,
    /// `load_assignment.policy.overprovisioning_factor`, in percent.
    pub overprovisioning_factor: Option<u32>,
    /// `load_assignment.policy.weighted_priority_health`.
    pub weighted_priority_health: bool,
    /// Its load-balancing policy.
    pub policy: Policy,
    /// `max_ejection_percent` of its outlier detection; `None` without outlier detection.
    pub outlier_ejection_percent: Option<u32>,
    /// `always_eject_one_host`.
    pub always_ejects_one: bool,
    /// Whether the cluster's own `retry_policy` may retry an answer that is no failure, whatever
    /// route leads to it.
    pub retries_answers: bool,
}

/// A cluster's load-balancing policy, as far as it matters to the filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The headers that `override_host` reads; `None` if the policy is another one.
    pub steer_headers: Option<Vec<String>>,
    /// Whether the cluster is divided into subsets. The filter cannot know which subset a request
    /// is for.
    pub has_subsets: bool,
    /// The policy that chooses where the filter does not.
    pub fallback: Fallback,
    /// The inputs of the cluster's own `hash_policy`, which overrides the routes': that of its ring, or
    /// of its HTTP options. Empty if the routes decide.
    pub hash_policy: Vec<HashSource>,
    /// The ring's `hash_balance_factor`: a bound of Envoy's own, in percent.
    pub hash_balance_factor: Option<u32>,
}

/// The policy for requests that the filter leaves to Envoy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fallback {
    /// `RING_HASH`.
    RingHash {
        /// Hash function of ring points.
        hash: HashFunction,
        /// `minimum_ring_size`.
        min_size: Option<u64>,
        /// `maximum_ring_size`.
        max_size: Option<u64>,
        /// Options that both rings have.
        hashing: Hashing,
    },
    /// `MAGLEV`.
    Maglev {
        /// `table_size`.
        table_size: Option<NonZeroU32>,
        /// Options that both rings have.
        hashing: Hashing,
    },
    /// Another policy, or none.
    #[default]
    Other,
}

/// Options that both of Envoy's rings have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hashing {
    /// `use_hostname_for_hashing`.
    pub by_hostname: bool,
    /// `locality_weighted_lb_config`.
    pub by_locality: bool,
}

impl Fallback {
    /// The options of the ring; Envoy's defaults for any other policy.
    pub fn hashing(&self) -> Hashing {
        match self {
            Fallback::RingHash { hashing, .. } | Fallback::Maglev { hashing, .. } => *hashing,
            Fallback::Other => Hashing::default(),
        }
    }
}

const FIELDS: [&str; 48] = [
    "configs",
    "cluster",
    "type",
    "alt_stat_name",
    "retry_policy_typed_config",
    "common_lb_config",
    "healthy_panic_threshold",
    "value",
    "load_assignment",
    "policy",
    "overprovisioning_factor",
    "weighted_priority_health",
    "typed_extension_protocol_options",
    HTTP_OPTIONS,
    "retry_policy",
    "retry_on",
    "retriable_status_codes",
    "retriable_headers",
    "outlier_detection",
    "max_ejection_percent",
    "always_eject_one_host",
    "load_balancing_policy",
    "policies",
    "typed_extension_config",
    "typed_config",
    "@type",
    "override_host_sources",
    "header",
    "fallback_policy",
    "subset_lb_policy",
    "hash_function",
    "minimum_ring_size",
    "maximum_ring_size",
    "table_size",
    "use_hostname_for_hashing",
    "consistent_hashing_lb_config",
    "hash_balance_factor",
    "locality_weighted_lb_config",
    "hash_policy",
    "header_name",
    "regex_rewrite",
    "cookie",
    "query_parameter",
    "connection_properties",
    "source_ip",
    "filter_state",
    "terminal",
    "name",
];

/// The extension that has a cluster's options of HTTP.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Reads the answer; `None` if Envoy knows no cluster of that name.
///
/// # Errors
/// If the answer has another form than Envoy's.
pub fn read(body: &[u8]) -> Result<Option<Cluster>, DiscoveryError> {
    let answer = json::read(body, &FIELDS)?;
    let configs = answer.list("configs")?.unwrap_or_default();
    let Some(config) = configs.first() else {
        return Ok(None);
    };
    let Some(cluster) = config.field("cluster")? else {
        return Ok(None);
    };
    Ok(Some(self::cluster(cluster)?))
}

fn cluster(json: &Json) -> Result<Cluster, JsonError> {
    let threshold = inside(json, "common_lb_config")?;
    let threshold = inside_of(threshold, "healthy_panic_threshold")?;
    let assignment = inside_of(inside(json, "load_assignment")?, "policy")?;
    let outlier = json.field("outlier_detection")?;
    let options = inside_of(
        inside(json, "typed_extension_protocol_options")?,
        HTTP_OPTIONS,
    )?;
    // Envoy's default is 10 %.
    let percent = match outlier {
        Some(outlier) => Some(wrapped(outlier, "max_ejection_percent")?.unwrap_or(10)),
        None => None,
    };
    Ok(Cluster {
        stat_name: json.text("alt_stat_name")?.map(str::to_owned),
        by_eds: json.text("type")? == Some("EDS"),
        panic_threshold: threshold.map(whole_percent),
        overprovisioning_factor: match assignment {
            Some(policy) => policy.number("overprovisioning_factor")?,
            None => None,
        },
        weighted_priority_health: match assignment {
            Some(policy) => policy.flag("weighted_priority_health")?,
            None => false,
        },
        policy: whole_policy(json, options)?,
        outlier_ejection_percent: percent,
        always_ejects_one: match outlier {
            Some(outlier) => outlier.flag("always_eject_one_host")?,
            None => false,
        },
        retries_answers: match options {
            Some(options) => routes::may_retry_answers(&[options])?,
            None => false,
        },
    })
}

/// The cluster's policy. What the cluster's options of HTTP hash counts in place of what a route hashes, but not in place
/// of what the ring itself hashes (seen on 1.40.0).
fn whole_policy(json: &Json, options: Option<&Json>) -> Result<Policy, JsonError> {
    let mut policy = match json.field("load_balancing_policy")? {
        Some(policy) => self::policy(policy, 4)?,
        None => Policy::default(),
    };
    if let Some(options) = options
        && policy.hash_policy.is_empty()
    {
        policy.hash_policy = routes::hash_policy(options)?;
    }
    Ok(policy)
}

/// The policy of a list: Envoy takes the first that it knows. `depth` limits policies that contain
/// others.
fn policy(json: &Json, depth: u8) -> Result<Policy, JsonError> {
    let Some(config) = first_config(json)? else {
        return Ok(Policy::default());
    };
    let kind = kind(config)?;
    if kind == "Subset" && depth > 0 {
        let inner = match config.field("subset_lb_policy")? {
            Some(inner) => policy(inner, depth - 1)?,
            None => Policy::default(),
        };
        return Ok(Policy {
            has_subsets: true,
            ..inner
        });
    }
    if kind != "OverrideHost" {
        return Ok(Policy {
            fallback: ring(config)?,
            hash_policy: hash_policy(config)?,
            hash_balance_factor: hash_balance_factor(config)?,
            ..Policy::default()
        });
    }
    let sources = config.list("override_host_sources")?.unwrap_or_default();
    let mut headers = Vec::new();
    for source in sources {
        if let Some(header) = source.text("header")? {
            headers.push(header.to_ascii_lowercase());
        }
    }
    // Subsets inside the fallback divide what the filter chooses among, too.
    let fallback = match config.field("fallback_policy")? {
        Some(fallback) if depth > 0 => policy(fallback, depth - 1)?,
        _ => Policy::default(),
    };
    Ok(Policy {
        steer_headers: Some(headers),
        ..fallback
    })
}

fn first_config(json: &Json) -> Result<Option<&Json>, JsonError> {
    let policies = json.list("policies")?.unwrap_or_default();
    let Some(first) = policies.first() else {
        return Ok(None);
    };
    inside_of(inside(first, "typed_extension_config")?, "typed_config")
}

/// The last part of the type's name.
fn kind(config: &Json) -> Result<&str, JsonError> {
    let kind = config.text("@type")?.unwrap_or_default();
    Ok(kind.rsplit('.').next().unwrap_or_default())
}

fn ring(config: &Json) -> Result<Fallback, JsonError> {
    let common = config.field("consistent_hashing_lb_config")?;
    let by_hostname = match common {
        Some(common) => common.flag("use_hostname_for_hashing")?,
        None => config.flag("use_hostname_for_hashing")?,
    };
    let hashing = Hashing {
        by_hostname,
        by_locality: config.field("locality_weighted_lb_config")?.is_some(),
    };
    Ok(match kind(config)? {
        "RingHash" => Fallback::RingHash {
            hash: match config.text("hash_function")? {
                Some("MURMUR_HASH_2") => HashFunction::Murmur2,
                _ => HashFunction::XxHash64,
            },
            min_size: wrapped(config, "minimum_ring_size")?,
            max_size: wrapped(config, "maximum_ring_size")?,
            hashing,
        },
        "Maglev" => Fallback::Maglev {
            table_size: wrapped(config, "table_size")?.and_then(NonZeroU32::new),
            hashing,
        },
        _ => Fallback::Other,
    })
}

fn hash_policy(config: &Json) -> Result<Vec<HashSource>, JsonError> {
    match config.field("consistent_hashing_lb_config")? {
        Some(common) => routes::hash_policy(common),
        None => Ok(Vec::new()),
    }
}

/// 0 stands for no bound.
fn hash_balance_factor(config: &Json) -> Result<Option<u32>, JsonError> {
    let factor = match config.field("consistent_hashing_lb_config")? {
        Some(common) => wrapped(common, "hash_balance_factor")?,
        None => None,
    };
    Ok(factor.filter(|factor| *factor > 0))
}

fn inside<'a>(json: &'a Json, name: &'static str) -> Result<Option<&'a Json>, JsonError> {
    json.field(name)
}

fn inside_of<'a>(
    json: Option<&'a Json>,
    name: &'static str,
) -> Result<Option<&'a Json>, JsonError> {
    match json {
        Some(json) => json.field(name),
        None => Ok(None),
    }
}

/// A wrapped number, which Envoy writes as a number, or as text if it has 64 bits.
fn wrapped<T: TryFrom<u64>>(json: &Json, name: &'static str) -> Result<Option<T>, JsonError> {
    match json.field(name)? {
        Some(Json::Text(text)) => {
            let number = text.parse::<u64>().ok().and_then(|n| T::try_from(n).ok());
            number.map(Some).ok_or(JsonError::Invalid(name))
        }
        _ => json.number(name),
    }
}

/// A `Percent` as a whole number, truncated in double arithmetic as Envoy does, so that 29 becomes
/// 28 (`ProtobufPercentHelper::convertPercent`, seen on 1.40.0).
fn whole_percent(json: &Json) -> u32 {
    let percent = match json.field("value") {
        Ok(Some(Json::Number(number))) => f64::from(u32::try_from(*number).unwrap_or(100)),
        Ok(Some(Json::Double(number))) => *number,
        // Envoy leaves out a percentage of 0.
        _ => 0.0,
    };
    let cut = 100.0 * (percent / 100.0);
    let below = (1..=100u32).take_while(|whole| f64::from(*whole) <= cut);
    below.last().unwrap_or(0)
}
