//! The parts of the companion's answers that are shown. Fields that an older companion lacks are zero or absent.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::states::{Check, LinkState, UnitRole};

/// `GET /readyz`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ready {
    pub(super) unit: String,
    pub(super) role: UnitRole,
    pub(super) ready: bool,
    pub(super) checks: BTreeMap<String, Check>,
    pub(super) wiring: Vec<String>,
}

/// A service of `GET /v1/services`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) service: String,
    pub(super) registry: Vec<Value>,
    pub(super) reporters: Vec<Reporter>,
    pub(super) instances: Vec<Instance>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reporter {
    pub(super) reporter: String,
    pub(super) ring: String,
    pub(super) fallbacks: u64,
    pub(super) updates_per_s: f64,
    pub(super) updates_refused: u64,
    pub(super) updates_dropped: u64,
    pub(super) wiring: Vec<Finding>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Finding {
    pub(super) kind: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) address: String,
    pub(super) healthy: bool,
    pub(super) draining: bool,
    pub(super) warmth: u8,
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) in_flight: u64,
    pub(super) update_load: u64,
    pub(super) updates_per_s: f64,
    pub(super) share: Option<f64>,
    pub(super) capacity: Option<u64>,
}

/// `GET /v1/units`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Units {
    pub(super) unit: String,
    pub(super) sync: Option<Sync>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sync {
    pub(super) inbox: LinkState,
    pub(super) links: BTreeMap<String, Link>,
    pub(super) outbox: u64,
    pub(super) outbox_max: u64,
    pub(super) repaired_records: u64,
    pub(super) set_aside: BTreeMap<String, Value>,
    pub(super) strangers: BTreeMap<String, Value>,
    pub(super) namesakes: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Link {
    pub(super) state: LinkState,
    pub(super) confirmed: u64,
    pub(super) compared: Option<Compared>,
    pub(super) lag: Option<Lag>,
    pub(super) clock_skew_ms: Option<i64>,
    pub(super) clock_skew_alarm: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Compared {
    pub(super) diverged: Vec<u8>,
    pub(super) missing: u64,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lag {
    pub(super) p50_ms: u64,
    pub(super) p99_ms: u64,
}

/// An entry of `GET /v1/conflicts`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Conflict {
    pub(super) lost: String,
    pub(super) kept: String,
}

/// An entry of `GET /v1/events`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) cursor: String,
    pub(super) at_ms: u64,
    pub(super) kind: String,
    pub(super) service: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) reason: String,
    pub(super) moved: f64,
    /// Absent for one.
    pub(super) seen_by: u64,
    pub(super) reporter: Option<String>,
    pub(super) unit: Option<String>,
}
