//! Reports for tests: all that a test does not care about, in one place.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[cfg(test)]
use std::collections::BTreeMap;

use unitring_protocol::report::{
    EventKind, Finding, Identity, InstanceEvent, InstanceLoad, Report, RingHash, RingReport,
    RingShape, ServiceReport,
};

use super::{LoadReport, Owner};
#[cfg(test)]
use super::{LoadSource, Reported, StoredLoad};

/// An instance that serves, with nothing counted.
pub(crate) fn instance(address: &str) -> InstanceLoad {
    InstanceLoad::new(address.parse().unwrap(), address.to_owned())
}

/// An event of a report.
pub(crate) fn event(kind: EventKind, instance: &InstanceLoad, number: u64) -> InstanceEvent {
    InstanceEvent {
        number,
        at_ms: number,
        kind,
        instance: instance.id.clone(),
        reason: format!("event {number}"),
        ring: "r".to_owned(),
        moved: 0.25,
    }
}

/// Something that is wired wrongly.
pub(crate) fn finding(kind: &str) -> Finding {
    Finding {
        kind: kind.to_owned(),
        seen: format!("saw {kind}"),
        mend: format!("change {kind}"),
    }
}

/// A report on one service.
pub(crate) fn report(
    (reporter, sequence): (&str, u64),
    service: &str,
    instances: Vec<InstanceLoad>,
    events: Vec<InstanceEvent>,
) -> Report {
    Report {
        version: 1,
        reporter: reporter.parse().unwrap(),
        sequence,
        interval_ms: 1_000,
        services: vec![ServiceReport {
            service: service.parse().unwrap(),
            ring: ring(),
            bound: None,
            fallbacks: 0,
            events,
            instances,
            wiring: Vec::new(),
        }],
    }
}

/// The part of a report on its first service, by [`owner`].
pub(crate) fn load_report(report: &Report) -> LoadReport {
    LoadReport::of_reporter(report, report.services[0].clone(), &owner())
}

/// The owner of sample reports.
pub(crate) fn owner() -> Owner {
    Owner::client(&"token edge")
}

/// A report as it is kept, which counts for ever.
#[cfg(test)]
pub(crate) fn stored(reporter: &str, instances: Vec<InstanceLoad>) -> StoredLoad {
    StoredLoad {
        reporter: reporter.parse().unwrap(),
        sequence: 1,
        taken_ms: 0,
        alive_until_ms: u64::MAX,
        remembered_until_ms: u64::MAX,
        events_through: 0,
        source: LoadSource::Reporter(reported()),
        instances,
        update_rates: BTreeMap::new(),
        owner: None,
    }
}

/// What a report says beside loads.
#[cfg(test)]
pub(crate) fn reported() -> Reported {
    Reported {
        ring: ring(),
        bound: None,
        fallbacks: 0,
        wiring: Vec::new(),
    }
}

/// The same of a stored load, for a test that changes it.
#[cfg(test)]
pub(crate) fn reported_mut(load: &mut StoredLoad) -> &mut Reported {
    match &mut load.source {
        LoadSource::Reporter(reported) => reported,
        LoadSource::Unit(unit) => panic!("the load of {unit}"),
    }
}

fn ring() -> RingReport {
    RingReport {
        version: "r".to_owned(),
        points: 160,
        shape: RingShape::Fixed {
            virtual_nodes: 160,
            max_size: 1 << 20,
            hash: RingHash::XxHash,
        },
        identity: Identity::Address,
        health: None,
        localities: Vec::new(),
    }
}
