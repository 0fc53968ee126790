//! Companion → filter: the answer to a report.

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, ServiceName};

/// The load of the fleet without the reporter that receives this snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`crate::PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// The highest stored event number of this reporter; events up to it need not be sent again.
    pub events_through: u64,
    /// One entry per service of the report.
    pub services: Vec<ServiceSnapshot>,
}

/// The rest of the fleet for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    /// The service.
    pub service: ServiceName,
    /// How many other Envoy processes report on the service.
    pub reporters: u32,
    /// How many of them come before the receiving reporter, in the order that is common to all.
    /// Absent from an older companion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Instances with load or data updates; an absent instance has none.
    pub rest: Vec<InstanceRest>,
}

/// One instance's load from the rest of the fleet: requests in flight, and those that its updates count as
/// ([`crate::report::InstanceLoad::load`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRest {
    /// The instance.
    pub id: InstanceId,
    /// The load from all other reporters.
    pub in_flight: u64,
    /// The part of `in_flight` from reporters that come before the receiving one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub before: u64,
    /// The receiving reporter's own load, as it last reported it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub own: u64,
    /// How many data updates all reporters together, the receiving one included, had of the instance per 1,000
    /// seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub updates_per_1000_s: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
