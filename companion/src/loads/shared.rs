//! The loads that a unit tells the others: those of its own reporters, merged where they are too many. Pure.

use std::collections::BTreeMap;

use unitring_protocol::envelope::{ReporterLoads, ServiceLoads};
use unitring_protocol::ids::{InstanceId, UnitId};

use super::{LoadSource, StoredLoad};

/// Most loads that are told reporter by reporter; above it, each service has one sum for the whole
/// unit.
const LOADS_MAX: usize = 20_000;

/// What a unit tells of these loads on a service. Those of other units are told by these themselves.
pub(crate) fn own(loads: Vec<StoredLoad>) -> Vec<ReporterLoads> {
    let is_own = |load: &StoredLoad| matches!(load.source, LoadSource::Reporter(_));
    let own = loads.into_iter().filter(is_own);
    let told = own.map(|load| ReporterLoads {
        interval_ms: load.interval_ms(),
        sequence: load.sequence,
        in_flight: busy(load.instances.iter().map(|one| (&one.id, one.in_flight))),
        update_load: busy(load.instances.iter().map(|one| (&one.id, one.update_load))),
        reporter: load.reporter,
    });
    told.collect()
}

/// Merges the reporters of each service if they are too many to be told one by one. Returns whether they were.
pub(crate) fn merge_if_many(unit: &UnitId, services: &mut [ServiceLoads]) -> bool {
    let count = |service: &ServiceLoads| {
        let reporters = service.reporters.iter();
        let loads = reporters.map(|one| one.in_flight.len() + one.update_load.len() + 1);
        loads.sum::<usize>()
    };
    let are_many = services.iter().map(count).sum::<usize>() > LOADS_MAX;
    if are_many {
        services.iter_mut().for_each(|service| merge(unit, service));
    }
    are_many
}

/// Merges all reporters of a service into one, named after the unit.
fn merge(unit: &UnitId, service: &mut ServiceLoads) {
    let sums = |of: fn(&ReporterLoads) -> &BTreeMap<InstanceId, u64>| {
        let all = service.reporters.iter().flat_map(of);
        busy(all.map(|(id, load)| (id, *load)))
    };
    let (in_flight, update_load) = (sums(|one| &one.in_flight), sums(|one| &one.update_load));
    let most = |of: fn(&ReporterLoads) -> u64| service.reporters.iter().map(of).max();
    let (sequence, interval_ms) = (most(|one| one.sequence), most(|one| one.interval_ms));
    let Ok(reporter) = format!("unit/{unit}").parse() else {
        return;
    };
    service.reporters = vec![ReporterLoads {
        reporter,
        sequence: sequence.unwrap_or(0),
        interval_ms: interval_ms.unwrap_or(0),
        in_flight,
        update_load,
    }];
}

/// The sum of loads by instance; idle instances are left out.
fn busy<'a>(loads: impl Iterator<Item = (&'a InstanceId, u64)>) -> BTreeMap<InstanceId, u64> {
    let mut busy: BTreeMap<InstanceId, u64> = BTreeMap::new();
    for (id, load) in loads.filter(|(_, load)| *load > 0) {
        let sum = busy.entry(id.clone()).or_default();
        *sum = sum.saturating_add(load);
    }
    busy
}

#[cfg(test)]
mod tests {
    use unitring_protocol::report::InstanceLoad;

    use super::*;
    use crate::loads::samples;

    fn load(reporter: &str, in_flight: &[(&str, u64)]) -> StoredLoad {
        let instance = |&(address, in_flight): &(&str, u64)| InstanceLoad {
            in_flight,
            update_load: in_flight / 2,
            ..samples::instance(address)
        };
        samples::stored(reporter, in_flight.iter().map(instance).collect())
    }

    fn service(reporters: Vec<ReporterLoads>) -> ServiceLoads {
        ServiceLoads {
            service: "orders".parse().unwrap(),
            reporters,
        }
    }

    #[test]
    fn a_unit_tells_the_busy_instances_of_its_own_reporters_only() {
        let mut foreign = load("w1", &[("10.0.0.1:80", 9)]);
        foreign.source = LoadSource::Unit("west".parse().unwrap());
        let idle = load("e2", &[("10.0.0.1:80", 0)]);
        let told = own(vec![
            load("e1", &[("10.0.0.1:80", 3), ("10.0.0.2:80", 0)]),
            idle,
            foreign,
        ]);
        let names: Vec<&str> = told.iter().map(|one| one.reporter.as_str()).collect();
        // An idle reporter is told, too: it counts among those that share an instance's room.
        assert_eq!(names, ["e1", "e2"]);
        assert_eq!(
            (told[0].in_flight.len(), told[0].in_flight["10.0.0.1:80"]),
            (1, 3)
        );
        assert_eq!(told[0].update_load["10.0.0.1:80"], 1);
        assert!(told[1].in_flight.is_empty());
    }

    #[test]
    fn reporters_are_merged_only_above_the_bound_and_nothing_of_their_load_is_lost() {
        let unit = "east".parse().unwrap();
        let addresses: Vec<String> = (0..100).map(|port| format!("10.0.0.1:{port}")).collect();
        let on: Vec<(&str, u64)> = addresses.iter().map(|it| (it.as_str(), 2)).collect();
        let all = |count: usize| {
            let loads = (0..count).map(|number| load(&format!("e{number}"), &on));
            own(loads.collect())
        };
        // Each reporter has two loads of each instance, and counts once.
        let mut few = [service(all(LOADS_MAX / 201))];
        let before = few.clone();
        assert!(!merge_if_many(&unit, &mut few));
        assert_eq!(few, before);
        let mut many = [service(all(LOADS_MAX / 201 + 1))];
        assert!(merge_if_many(&unit, &mut many));
        let merged = &many[0].reporters;
        assert_eq!(
            (merged.len(), merged[0].reporter.as_str()),
            (1, "unit/east")
        );
        let sum = 2 * u64::try_from(LOADS_MAX / 201 + 1).unwrap();
        assert_eq!(merged[0].in_flight["10.0.0.1:7"], sum);
        assert_eq!(merged[0].update_load["10.0.0.1:7"], sum / 2);
        assert_eq!((merged[0].sequence, merged[0].in_flight.len()), (1, 100));
    }

    #[test]
    fn sums_stay_at_the_top() {
        let unit = "east".parse().unwrap();
        let all = own(vec![
            load("e1", &[("a", u64::MAX)]),
            load("e2", &[("a", 5)]),
        ]);
        let mut one = service(all);
        merge(&unit, &mut one);
        assert_eq!(one.reporters[0].in_flight["a"], u64::MAX);
    }
}
