//! Cuts the loads of a report to what can be true. Pure.
//!
//! Invariant: an instance counts once in a report, and with no more than an Envoy can have in flight, and as much for
//! its updates. So a reporter that is wrong, or invented, shifts the picture of the fleet by a bounded amount.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use unitring_protocol::ids::InstanceId;
use unitring_protocol::report::InstanceLoad;

use crate::registry::WEIGHT_MAX;

/// Requests in flight of an instance that one report may say, and as many that its updates count as. Envoy's own
/// limits end far below: a request takes some ten kilobytes there.
pub(crate) const IN_FLIGHT_MAX: u64 = 1_000_000;

/// The loads that a report is kept with, and how many of them were lowered.
///
/// All entries stay, since an address that a cluster lists twice has two entries on its ring. What is counted
/// of it is with the first alone.
pub(crate) fn kept(reported: &[InstanceLoad]) -> (Vec<InstanceLoad>, u64) {
    let (mut kept, mut lowered) = (Vec::<InstanceLoad>::with_capacity(reported.len()), 0);
    let mut first: BTreeMap<&InstanceId, usize> = BTreeMap::new();
    for load in reported {
        let mut load = load.clone();
        let most = load.in_flight.max(load.update_load);
        let is_lowered = most > IN_FLIGHT_MAX || load.weight > WEIGHT_MAX;
        load.in_flight = load.in_flight.min(IN_FLIGHT_MAX);
        load.update_load = load.update_load.min(IN_FLIGHT_MAX);
        // As in the registry: a ring of such weights has more points than one is needed for.
        load.weight = load.weight.min(WEIGHT_MAX);
        lowered += u64::from(is_lowered);
        kept.push(load);
    }
    for (at, load) in reported.iter().enumerate() {
        match first.entry(&load.id) {
            Entry::Vacant(place) => drop(place.insert(at)),
            Entry::Occupied(first) => {
                if let Ok([first, again]) = kept.get_disjoint_mut([*first.get(), at]) {
                    take_over(first, again);
                }
            }
        }
    }
    (kept, lowered)
}

/// Leaves with the first entry the larger of each count, and none with the other.
fn take_over(first: &mut InstanceLoad, again: &mut InstanceLoad) {
    for (first, again) in [
        (&mut first.in_flight, &mut again.in_flight),
        (&mut first.calls, &mut again.calls),
        (&mut first.failures, &mut again.failures),
        (&mut first.updates, &mut again.updates),
        (&mut first.update_bytes, &mut again.update_bytes),
        (&mut first.updates_refused, &mut again.updates_refused),
        (&mut first.updates_dropped, &mut again.updates_dropped),
        (&mut first.update_load, &mut again.update_load),
    ] {
        *first = (*first).max(std::mem::take(again));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::loads::samples;

    fn load(port: u8, in_flight: u64, calls: u64) -> InstanceLoad {
        InstanceLoad {
            in_flight,
            calls,
            ..samples::instance(&format!("10.0.0.1:{port}"))
        }
    }

    #[test]
    fn an_address_that_is_listed_twice_counts_once_and_stays_twice() {
        let mut again = load(1, 0, 0);
        again.weight = 3;
        let reported = [load(1, 5, 40), load(2, 7, 50), again.clone()];
        assert_eq!(kept(&reported), (reported.to_vec(), 0));
        // Either of them may have the counts.
        let other = [again.clone(), load(2, 7, 50), load(1, 5, 40)];
        let (kept, _) = kept(&other);
        assert_eq!(
            (kept[0].in_flight, kept[0].calls, kept[0].weight),
            (5, 40, 3)
        );
        assert_eq!(
            (kept[2].in_flight, kept[2].calls, kept[2].weight),
            (0, 0, 1)
        );
    }

    #[test]
    fn more_in_flight_than_an_envoy_can_have_is_lowered_and_counted() {
        let reported = [
            load(1, u64::MAX, 1),
            load(2, IN_FLIGHT_MAX, 1),
            load(1, u64::MAX, 9),
        ];
        let (kept, lowered) = kept(&reported);
        let in_flight: Vec<u64> = kept.iter().map(|load| load.in_flight).collect();
        assert_eq!(in_flight, [IN_FLIGHT_MAX, IN_FLIGHT_MAX, 0]);
        assert_eq!((kept[0].calls, kept[2].calls, lowered), (9, 0, 2));
    }

    #[test]
    fn what_updates_count_as_is_bounded_and_counts_once_too() {
        let mut reported = [load(1, 3, 1), load(1, 0, 0)];
        for load in &mut reported {
            load.update_load = u64::MAX;
            (load.updates, load.update_bytes) = (4, 40);
            (load.updates_refused, load.updates_dropped) = (5, 6);
        }
        let (kept, lowered) = kept(&reported);
        let counts = |load: &InstanceLoad| {
            let counts = [
                load.update_bytes,
                load.updates_refused,
                load.updates_dropped,
            ];
            (load.load(), load.updates, counts)
        };
        assert_eq!(counts(&kept[0]), (IN_FLIGHT_MAX + 3, 4, [40, 5, 6]));
        assert_eq!(counts(&kept[1]), (0, 0, [0; 3]));
        assert_eq!(lowered, 2);
    }

    proptest! {
        #[test]
        fn each_instance_has_its_largest_count_once(
            loads in prop::collection::vec((0..5u8, any::<u64>(), any::<u64>()), 0..30),
        ) {
            let reported: Vec<InstanceLoad> =
                loads.iter().map(|(port, in_flight, calls)| load(*port, *in_flight, *calls)).collect();
            let (kept, _) = kept(&reported);
            let of = |list: &[InstanceLoad], id: &InstanceId, count: fn(&InstanceLoad) -> u64| {
                let own = list.iter().filter(|load| load.id == *id).map(count);
                own.collect::<Vec<u64>>()
            };
            for one in &reported {
                let counts = of(&kept, &one.id, |load| load.calls);
                let largest = of(&reported, &one.id, |load| load.calls).into_iter().max();
                prop_assert_eq!(Some(counts[0]), largest);
                prop_assert!(counts[1..].iter().all(|count| *count == 0));
                let counts = of(&kept, &one.id, |load| load.in_flight);
                let largest = of(&reported, &one.id, |load| load.in_flight).into_iter().max();
                prop_assert_eq!(Some(counts[0]), largest.map(|most| most.min(IN_FLIGHT_MAX)));
                prop_assert!(counts[1..].iter().all(|count| *count == 0));
            }
        }
    }
}
