//! Filter → companion: what one Envoy process knows of its instances.
//!
//! Counters are totals since the process started, so a lost or repeated report changes no sum: the
//! companion takes the difference from the last report.

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, ReporterId, ServiceName};

/// One report of one Envoy process. One of its VMs sends it each interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`crate::PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// The reporting Envoy process.
    pub reporter: ReporterId,
    /// Grows with each report of this reporter; an older one is dropped.
    pub sequence: u64,
    /// Time until the next report is due. A reporter that misses several is forgotten.
    pub interval_ms: u64,
    /// One entry per service that the filter balances.
    pub services: Vec<ServiceReport>,
}

/// The part of a report about one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The service.
    pub service: ServiceName,
    /// The ring that requests are placed on.
    pub ring: RingReport,
    /// The bound that requests are placed under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<BoundReport>,
    /// Requests left to Envoy's own policy since the process started.
    pub fallbacks: u64,
    /// Every instance that the filter knows, in the order that determines the ring.
    pub instances: Vec<InstanceLoad>,
    /// Events that no companion has confirmed yet, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<InstanceEvent>,
    /// Mistakes that the filter found in its wiring into Envoy, the gravest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wiring: Vec<Finding>,
}

/// A mistake in Envoy's configuration that the filter has seen, and its fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The kind: one of a fixed list of words, such as `discovery_cluster` (docs/wiring.md).
    pub kind: String,
    /// What the filter saw.
    pub seen: String,
    /// What to change.
    pub mend: String,
}

/// The ring in use, enough to build the same one elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingReport {
    /// Names the ring's content: equal versions place equally.
    pub version: String,
    /// Number of virtual nodes.
    pub points: u64,
    /// How instances become virtual nodes.
    pub shape: RingShape,
    /// Whether instances are placed by address or by id.
    #[serde(default)]
    pub identity: Identity,
    /// How health decides which priority a key falls to. Absent from older filters, which knew one
    /// priority and Envoy's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthReport>,
    /// The weight of each locality, by [`InstanceLoad::locality`]; empty if localities have no
    /// weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub localities: Vec<u32>,
}

/// How an Envoy cluster derives the load of its priorities from the health of its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// `common_lb_config.healthy_panic_threshold`, in whole percent.
    pub panic_threshold: u32,
    /// `overprovisioning_factor`, in percent.
    pub overprovisioning_factor: u32,
    /// `weighted_priority_health`: whether health is counted by weight instead of by instance.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub weighted_priority_health: bool,
}

/// How instances become virtual nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fill", rename_all = "snake_case")]
pub enum RingShape {
    /// Envoy's RING_HASH: shares of a ring of at least `min_size` points.
    Envoy {
        /// Least number of points.
        min_size: u64,
        /// Greatest number of points.
        max_size: u64,
        /// Hash function of points.
        #[serde(default)]
        hash: RingHash,
    },
    /// The same number of points for an instance, independent of the others.
    Fixed {
        /// Points of an instance of weight 1.
        virtual_nodes: u32,
        /// Greatest number of points.
        max_size: u64,
        /// Hash function of points.
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

/// The identity by which an instance is placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// By its `ip:port`, as in Envoy.
    #[default]
    Address,
    /// By its id, so that it keeps its keys at another address.
    Id,
}

/// The bound that requests are placed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundReport {
    /// The capacity in percent of the fair share; 0 if the bound is off.
    pub balance_factor: u32,
    /// Requests in flight that an instance may always have.
    pub min_capacity: u64,
    /// The hard cap of an instance; 0 if there is none.
    pub max_in_flight: u64,
    /// Which Envoys' requests count.
    pub scope: LoadScope,
}

/// Which Envoys' requests count for the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadScope {
    /// Requests of the reporting Envoy alone.
    Process,
    /// Requests of every Envoy that reports.
    Fleet,
}

/// An instance and its load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLoad {
    /// The instance.
    pub id: InstanceId,
    /// Where its requests go, `ip:port`.
    pub address: String,
    /// Its weight; its share of requests is its part of the sum of weights. 0 for an instance that is
    /// on no table here: only a filter of this process with other settings knows it.
    pub weight: u32,
    /// Whether its health lets it take new requests.
    pub healthy: bool,
    /// Whether it is leaving and takes no new requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Whether it is used only while instances in full health do not suffice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
    /// Whether Envoy leaves it out when it computes how much of a priority is healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excluded: bool,
    /// Its priority; 0 is used first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// Its locality, an index into [`RingReport::localities`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub locality: u32,
    /// What its virtual nodes are hashed from, if Envoy was told something else than its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<String>,
    /// How much of its weight counts, in percent: less than 100 during a slow start.
    #[serde(default = "all_of_it", skip_serializing_if = "is_all_of_it")]
    pub warmth: u8,
    /// Attempts sent to it since the process started.
    pub calls: u64,
    /// Attempts of `calls` that failed.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub failures: u64,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Data updates it announced since the process started.
    pub updates: u64,
    /// Bytes of their values.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub update_bytes: u64,
    /// Announcements that were refused: malformed, too large, or not allowed.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub updates_refused: u64,
    /// Updates that did not reach the companion in time.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub updates_dropped: u64,
    /// Requests in flight that its updates count as now, by `load.update_weight`.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub update_load: u64,
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
            update_bytes: 0,
            updates_refused: 0,
            updates_dropped: 0,
            update_load: 0,
        }
    }

    /// What the bound counts: its requests in flight, and what its updates count as.
    pub fn load(&self) -> u64 {
        self.in_flight.saturating_add(self.update_load)
    }
}

/// An event of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceEvent {
    /// Grows with each event of this reporter, so that a repeated event is recognised.
    pub number: u64,
    /// When the event happened, in milliseconds since the Unix epoch, by the reporter's clock.
    pub at_ms: u64,
    /// The kind of event.
    pub kind: EventKind,
    /// The instance.
    pub instance: InstanceId,
    /// The reason in a few words, for people.
    pub reason: String,
    /// The ring's version after the event.
    pub ring: String,
    /// The share of all keys that the event gave another owner, 0 to 1.
    pub moved: f64,
}

/// The kinds of [`InstanceEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The instance joined the service.
    Added,
    /// The instance left the service.
    Removed,
    /// The instance stays a member but takes no new requests.
    Ejected,
    /// The instance takes new requests again.
    Recovered,
    /// The instance has its whole share after a slow start.
    Warmed,
    /// The load of the instance passed the threshold.
    Overloaded,
    /// The load of the instance is clearly below the threshold again.
    Relieved,
}
