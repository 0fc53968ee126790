//! The load of a service as a source tells it, before it is taken. Pure.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::ReporterLoads;
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName, UnitId};
use unitring_protocol::report::{InstanceEvent, InstanceLoad, Report, ServiceReport};

use super::{LoadSource, Owner};

/// The load of one reporter's requests on the instances of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadReport {
    pub service: ServiceName,
    pub reporter: ReporterId,
    /// Grows with each report of this reporter.
    pub sequence: u64,
    /// Time until the next one is due, in ms.
    pub interval_ms: u64,
    pub instances: Vec<InstanceLoad>,
    /// Events that are not confirmed yet, oldest first.
    pub events: Vec<InstanceEvent>,
    pub source: LoadSource,
    pub owner: Owner,
}

impl LoadReport {
    /// One service's part of a report.
    pub fn of_reporter(report: &Report, mut service: ServiceReport, owner: &Owner) -> Self {
        Self {
            service: service.service.clone(),
            reporter: report.reporter.clone(),
            sequence: report.sequence,
            interval_ms: report.interval_ms,
            instances: std::mem::take(&mut service.instances),
            events: std::mem::take(&mut service.events),
            source: LoadSource::Reporter(service.into()),
            owner: owner.clone(),
        }
    }

    /// The loads of a reporter of another unit.
    pub fn of_unit(unit: &UnitId, service: &ServiceName, told: ReporterLoads) -> Self {
        let (in_flight, update_load) = (&told.in_flight, &told.update_load);
        let ids: BTreeSet<&InstanceId> = in_flight.keys().chain(update_load.keys()).collect();
        let of = |loads: &BTreeMap<InstanceId, u64>, id| loads.get(id).copied().unwrap_or(0);
        let instances = ids.into_iter().map(|id| InstanceLoad {
            in_flight: of(in_flight, id),
            update_load: of(update_load, id),
            ..InstanceLoad::new(id.clone(), id.to_string())
        });
        Self {
            service: service.clone(),
            sequence: told.sequence,
            interval_ms: told.interval_ms,
            instances: instances.collect(),
            events: Vec::new(),
            source: LoadSource::Unit(unit.clone()),
            owner: Owner::unit(unit),
            reporter: told.reporter,
        }
    }
}
