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
}
