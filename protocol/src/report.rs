//! Filter → companion: what one Envoy process knows of its instances.
//!
//! Counters are totals since the process started, so a lost or repeated report loses and adds
//! nothing: the companion takes the difference to the last one.

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, ReporterId, ServiceName, UnitId};

/// One report of one Envoy process, sent each interval by one of its VMs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`crate::PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// Who reports.
    pub reporter: ReporterId,
    /// Grows with each report of this reporter; an older one is dropped.
    pub sequence: u64,
    /// When the next report is due. A reporter that misses several is forgotten.
    pub interval_ms: u64,
    /// One entry per service that the filter balances.
    pub services: Vec<ServiceReport>,
    /// The unit that it came from, where a companion passes it on; a filter leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitId>,
}

/// The part of a report about one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Which service.
    pub service: ServiceName,
    /// The ring that requests are placed on.
    pub ring: RingReport,
    /// How much an instance may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<BoundReport>,
    /// Requests left to Envoy's own policy since the process started.
    pub fallbacks: u64,
    /// Every instance that the filter knows, in the order that makes the ring.
    pub instances: Vec<InstanceLoad>,
    /// Events that no companion has confirmed yet, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<InstanceEvent>,
    /// What the filter found wrong in how it is wired into Envoy, the gravest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wiring: Vec<Finding>,
}

/// A mistake in Envoy's configuration that the filter has seen, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which kind: one of a fixed list of words, as `discovery_cluster` (docs/wiring.md).
    pub kind: String,
    /// What was seen.
    pub seen: String,
    /// What to change.
    pub mend: String,
}

/// The ring in use, enough to build the same one elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingReport {
    /// Names the ring's content: equal versions place equally.
    pub version: String,
    /// How many virtual nodes it has.
    pub points: u64,
    /// The rule that made it.
    pub shape: RingShape,
    /// What an instance is placed by.
    #[serde(default)]
    pub identity: Identity,
    /// How health decides which priority a key is placed in; absent from older filters, which knew
    /// one priority and Envoy's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthReport>,
    /// The weight of each locality, by [`InstanceLoad::locality`]; empty where localities have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub localities: Vec<u32>,
}

/// How an Envoy cluster turns the health of its hosts into the priorities that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// `common_lb_config.healthy_panic_threshold`, in whole percent.
    pub panic_threshold: u32,
    /// `overprovisioning_factor`, in percent.
    pub overprovisioning_factor: u32,
    /// `weighted_priority_health`: whether weights count, or instances.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub weighted_priority_health: bool,
}

/// The rule that turns instances into virtual nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fill", rename_all = "snake_case")]
pub enum RingShape {
    /// Envoy's RING_HASH: shares of a ring of at least `min_size` points.
    Envoy {
        /// Least number of points.
        min_size: u64,
        /// Greatest number of points.
        max_size: u64,
        /// What points are hashed with.
        #[serde(default)]
        hash: RingHash,
    },
    /// The same number of points for an instance whatever the others are.
    Fixed {
        /// Points of an instance of weight 1.
        virtual_nodes: u32,
        /// Greatest number of points.
        max_size: u64,
        /// What points are hashed with.
        #[serde(default)]
        hash: RingHash,
    },
    /// Envoy's MAGLEV: a table that instances fill in turn.
    Maglev {
        /// Slots of the table, a prime.
        table_size: u32,
    },
}

/// The hash function of ring points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RingHash {
    /// xxh64, Envoy's `XX_HASH`.
    #[default]
    #[serde(rename = "xx_hash")]
    XxHash,
    /// Envoy's `MURMUR_HASH_2`.
    #[serde(rename = "murmur_hash_2")]
    MurmurHash2,
}

/// What an instance is placed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// Its `ip:port`, as Envoy does.
    #[default]
    Address,
    /// Its id, so that it keeps its keys at another address.
    Id,
}

/// The bound that requests are placed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundReport {
    /// Percent over the fair share; 0 if the bound is off.
    pub balance_factor: u32,
    /// In-flight that is always allowed.
    pub min_capacity: u64,
    /// The hard cap of an instance; 0 if there is none.
    pub max_in_flight: u64,
    /// Whose requests count.
    pub scope: LoadScope,
}

/// Whose requests count for the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadScope {
    /// Those of the reporting Envoy alone.
    Process,
    /// Those of every Envoy that reports.
    Fleet,
}

/// An instance and its load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLoad {
    /// Which instance.
    pub id: InstanceId,
    /// Where requests for it go, `ip:port`.
    pub address: String,
    /// Its share is `weight` of the sum of weights.
    pub weight: u32,
    /// Whether it takes new requests, as far as health goes.
    pub healthy: bool,
    /// Whether it is to take no new requests for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Whether it is to be used only while those in full health do not suffice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
    /// Whether Envoy leaves it out where it counts who is healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excluded: bool,
    /// Its priority; 0 is used first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// Its locality, an index into [`RingReport::localities`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub locality: u32,
    /// What its virtual nodes are hashed from, where Envoy was told something else than its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<String>,
    /// How much of its weight counts while it warms up, in percent.
    #[serde(default = "all_of_it", skip_serializing_if = "is_all_of_it")]
    pub warmth: u8,
    /// Attempts sent to it since the process started.
    pub calls: u64,
    /// Those of them that failed.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub failures: u64,
    /// Requests started and not finished, now.
    pub in_flight: u64,
    /// Data updates it made since the process started.
    pub updates: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

fn all_of_it() -> u8 {
    100
}

fn is_all_of_it(warmth: &u8) -> bool {
    *warmth == all_of_it()
}

impl InstanceLoad {
    /// An instance of weight 1 in full health, with nothing counted.
    pub fn new(id: InstanceId, address: String) -> Self {
        Self {
            id,
            address,
            weight: 1,
            healthy: true,
            draining: false,
            degraded: false,
            excluded: false,
            priority: 0,
            locality: 0,
            hash_key: None,
            warmth: all_of_it(),
            calls: 0,
            failures: 0,
            in_flight: 0,
            updates: 0,
        }
    }
}

/// Something that happened to an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceEvent {
    /// Grows with each event of this reporter, so that a repeated one is known.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch, by the reporter's clock.
    pub at_ms: u64,
    /// What.
    pub kind: EventKind,
    /// To which instance.
    pub instance: InstanceId,
    /// Why, in a few words for people.
    pub reason: String,
    /// The ring's version after it.
    pub ring: String,
    /// The share of all keys that has another owner now, 0 to 1.
    pub moved: f64,
}

/// The kinds of [`InstanceEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It joined the service.
    Added,
    /// It left the service.
    Removed,
    /// It is a member but takes no new requests.
    Ejected,
    /// It takes new requests again.
    Recovered,
    /// It has its whole share, after a slow start.
    Warmed,
    /// Its load passed the threshold.
    Overloaded,
    /// Its load is clearly under the threshold again.
    Relieved,
}
