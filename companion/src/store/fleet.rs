//! Registry, loads and events of a unit.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::snapshot::ServiceSnapshot;

use super::{LogSize, Logged, StoreError};
use crate::events::{Cursor, Entry, Event};
use crate::loads::wiring::{self, Miswired};
use crate::loads::{Cut, LoadReport, StoredLoad, Totals};
use crate::registry::{Registered, Registration, Registry};

/// Most reports kept, one per reporter and service; more are refused.
pub(crate) const REPORTERS_MAX: u64 = 4_096;
/// Most instances in the registry; more are refused.
pub(crate) const REGISTERED_MAX: u64 = 20_000;

/// The result of a report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    /// The highest event number of this reporter that is stored.
    pub events_through: u64,
    /// The growth of each counter; empty if the report was older than a known one.
    pub growth: BTreeMap<InstanceId, Totals>,
    /// Whether the report was dropped as old.
    pub old: bool,
    /// Events that are new.
    pub events: Vec<Event>,
    /// Their outcome.
    pub logged: Logged,
    /// How the reporter's wiring changed.
    pub wiring: wiring::Changed,
    /// The parts of the report that were not stored as sent.
    pub cut: Cut,
    /// Quiet reporters that made room.
    pub displaced: u64,
}

/// Registry, loads and events of a unit.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Stores the load of a service as it was told. Where the store is full of reporters, the one of the lowest
    /// [`crate::loads::standing`] may make room. Its events get entries of at most `room` bytes; the others are left
    /// out, unless they are counted with an entry.
    async fn take(&self, report: &LoadReport, room: u64, now_ms: u64) -> Result<Taken, StoreError>;

    /// The last reports on a service of all reporters that are alive.
    async fn loads(
        &self,
        service: &ServiceName,
        now_ms: u64,
    ) -> Result<Vec<StoredLoad>, StoreError>;

    /// The load of the rest of the fleet for a reporter that has just reported:
    /// [`crate::loads::rest`] over [`Self::loads`], without reading all of them each time.
    async fn rest(
        &self,
        service: &ServiceName,
        reporter: &ReporterId,
        now_ms: u64,
    ) -> Result<ServiceSnapshot, StoreError>;

    /// The reporters that are alive and report that they are wired wrongly, over all services,
    /// without reading every report each time.
    async fn miswired(&self, now_ms: u64) -> Result<Vec<Miswired>, StoreError>;

    /// Counters of a service's instances, over all reporters past and present.
    async fn totals(
        &self,
        service: &ServiceName,
    ) -> Result<BTreeMap<InstanceId, Totals>, StoreError>;

    /// Services with reports.
    async fn reported(&self) -> Result<BTreeSet<ServiceName>, StoreError>;

    /// Forgets the reports on a service and its counters. Returns whether there were any. A reporter that is alive
    /// comes back with its next report.
    async fn forget_service(&self, service: &ServiceName) -> Result<bool, StoreError>;

    /// Registers or renews an instance, or starts or stops its drain; an event reports what is new.
    /// With `keeps_draining` the drain stays, even if `instance` does not drain. Returns the instance as it
    /// is now.
    async fn register(
        &self,
        service: &ServiceName,
        instance: &Registered,
        keeps_draining: bool,
        now_ms: u64,
    ) -> Result<(Registration, Registered), StoreError>;

    /// Removes an instance, with an event. `false` if it was not registered.
    async fn unregister(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        now_ms: u64,
    ) -> Result<bool, StoreError>;

    /// The whole registry with its revision.
    async fn registry(&self) -> Result<Registry, StoreError>;

    /// The registry's revision: it grows with each change, but not with a renewal.
    async fn revision(&self) -> Result<u64, StoreError>;

    /// Entries of the event log after a cursor, oldest first; without one, the latest `limit`.
    async fn events(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Entry)>, StoreError>;

    /// A cursor before every entry that was stored at this moment or later, as near to them as the store knows.
    fn cursor_at(&self, at_ms: u64) -> Cursor;

    /// The size of the event log.
    async fn log_size(&self) -> Result<LogSize, StoreError>;
}
