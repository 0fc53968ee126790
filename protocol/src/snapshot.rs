//! Companion → filter: the answer to a report.

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, ServiceName};

/// What the rest of the fleet carries, without the reporter that it is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`crate::PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// The highest event number of this reporter that is stored; up to it, none need be sent again.
    pub events_through: u64,
    /// One entry per service of the report.
    pub services: Vec<ServiceSnapshot>,
}

/// The rest of the fleet for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    /// Which service.
    pub service: ServiceName,
    /// How many other Envoy processes report on it.
    pub reporters: u32,
    /// How many of them come before the one that this is sent to, in the order that all are told.
    /// An older companion says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Only instances with load; an absent one has none.
    pub rest: Vec<InstanceRest>,
}

/// One instance's requests in flight from the rest of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRest {
    /// Which instance.
    pub id: InstanceId,
    /// Requests started and not finished, over all other reporters.
    pub in_flight: u64,
    /// Of them, those of the reporters that come before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub before: u64,
    /// What the reporter that this is sent to has said of itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub own: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
