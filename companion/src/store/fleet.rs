//! Registry, loads and events of a unit.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::report::{Report, ServiceReport};
use unitring_protocol::snapshot::ServiceSnapshot;

use super::StoreError;
use crate::events::{Cursor, Entry};
use crate::loads::wiring::Miswired;
use crate::loads::{Cut, StoredLoad, Totals};
use crate::registry::{Registered, Registration, Registry};

/// Events kept; older ones are dropped.
pub const EVENTS_MAX: u64 = 10_000;
/// Reports kept, one per reporter and service; more are refused.
pub const REPORTERS_MAX: u64 = 4_096;
/// Instances in the registry; more are refused.
pub const REGISTERED_MAX: u64 = 20_000;

/// What a report did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The highest event number of this reporter that is stored.
    pub events_through: u64,
    /// What each counter grew by; nothing if the report was older than a known one.
    pub growth: BTreeMap<InstanceId, Totals>,
    /// Whether the report was dropped as old.
    pub old: bool,
    /// Events that were stored.
    pub events: u64,
    /// What was not kept as it was said.
    pub cut: Cut,
}

/// Registry, loads and events of a unit.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Takes one service's part of a report.
    async fn take(
        &self,
        report: &Report,
        service: &ServiceReport,
        now_ms: u64,
    ) -> Result<Taken, StoreError>;

    /// The last reports on a service of the reporters that are alive.
    async fn loads(
        &self,
        service: &ServiceName,
        now_ms: u64,
    ) -> Result<Vec<StoredLoad>, StoreError>;

    /// What the rest of the fleet carries for one that has just reported: [`crate::loads::rest`] over
    /// [`Self::loads`], without reading them all each time.
    async fn rest(
        &self,
        service: &ServiceName,
        reporter: &ReporterId,
        now_ms: u64,
    ) -> Result<ServiceSnapshot, StoreError>;

    /// The reporters that are alive and found something wrong in their wiring, over all services, without
    /// reading every report each time.
    async fn miswired(&self, now_ms: u64) -> Result<Vec<Miswired>, StoreError>;

    /// Counters of a service's instances, over all reporters there ever were.
    async fn totals(
        &self,
        service: &ServiceName,
    ) -> Result<BTreeMap<InstanceId, Totals>, StoreError>;

    /// Services that somebody reports on.
    async fn reported(&self) -> Result<BTreeSet<ServiceName>, StoreError>;

    /// Registers an instance or renews it, with an event if it is new, or begins or ends to drain.
    /// With `keeps_draining` that is as it was, whatever `instance` says. Answers it as it is now.
    async fn register(
        &self,
        service: &ServiceName,
        instance: &Registered,
        keeps_draining: bool,
        now_ms: u64,
    ) -> Result<(Registration, Registered), StoreError>;

    /// Removes an instance, with an event. `false` if there was none.
    async fn unregister(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        now_ms: u64,
    ) -> Result<bool, StoreError>;

    /// The whole registry with its revision.
    async fn registry(&self) -> Result<Registry, StoreError>;

    /// The registry's revision: it grows with each change, not with a renewal.
    async fn revision(&self) -> Result<u64, StoreError>;

    /// Events after a cursor, oldest first; without one, the latest `limit`.
    async fn events(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Entry)>, StoreError>;
}
