use proptest::prelude::*;
use unitring_protocol::report::InstanceLoad;

use super::*;
use crate::loads::{self, samples};

fn load(reporter: u8, sequence: u64, alive_until_ms: u64, in_flight: &[(u8, u64)]) -> StoredLoad {
    // The load of odd ports is that of updates, so that sums hold for both kinds.
    let instance = |&(port, load): &(u8, u64)| InstanceLoad {
        in_flight: if port % 2 == 0 { load } else { load / 2 },
        update_load: if port % 2 == 0 { 0 } else { load - load / 2 },
        ..samples::instance(&format!("10.0.0.1:{port}"))
    };
    // Some have updates, whether or not they have load.
    let updating = in_flight
        .iter()
        .filter(|(port, load)| port % 3 == 0 && load % 2 == 0);
    let rate = |(port, load): &(u8, u64)| {
        let rate = serde_json::from_value((load / 2).into()).unwrap();
        (format!("10.0.0.1:{port}").parse().unwrap(), rate)
    };
    StoredLoad {
        sequence,
        alive_until_ms,
        update_rates: updating.map(rate).collect(),
        ..samples::stored(
            name(reporter).as_str(),
            in_flight.iter().map(instance).collect(),
        )
    }
}

fn name(reporter: u8) -> ReporterId {
    format!("e{reporter}").parse().unwrap()
}

fn service() -> ServiceName {
    "orders".parse().unwrap()
}

#[test]
fn a_report_that_comes_late_does_not_replace_a_newer_one() {
    let mut picture = Picture::default();
    picture.put(&load(1, 2, 10, &[(1, 5)]));
    picture.put(&load(1, 1, 10, &[(1, 9)]));
    let rest = picture.rest(&service(), &name(2), 0);
    assert_eq!(rest.rest[0].in_flight, 5);
}

#[test]
fn a_silent_reporter_counts_again_once_it_reports() {
    let mut picture = Picture::default();
    picture.put(&load(1, 1, 10, &[(1, 5)]));
    assert_eq!(picture.rest(&service(), &name(2), 9).reporters, 1);
    assert_eq!(picture.rest(&service(), &name(2), 10).reporters, 0);
    assert!(picture.is_empty());
    picture.put(&load(1, 2, 20, &[(1, 6)]));
    let rest = picture.rest(&service(), &name(2), 10);
    assert_eq!((rest.reporters, rest.rest[0].in_flight), (1, 6));
}

#[test]
fn instances_that_come_and_go_do_not_pile_up() {
    let mut picture = Picture::default();
    for round in 0..200 {
        let here = [(round, 1), (round + 1, 2)];
        picture.put(&load(1, round.into(), 10, &here));
    }
    assert_eq!(picture.places.len(), 2);
    // The columns of a report and of the one that it replaces.
    assert!(picture.columns.len() <= 4, "{}", picture.columns.len());
}

#[test]
fn who_is_wired_wrongly_is_told_until_it_is_mended_or_silent() {
    let mut picture = Picture::default();
    let wired = |reporter, sequence, kinds: &[&str]| {
        let mut load = load(reporter, sequence, 10, &[]);
        let findings = kinds.iter().map(|kind| samples::finding(kind));
        samples::reported_mut(&mut load).wiring = findings.collect();
        load
    };
    let found = |picture: &mut Picture, now_ms| {
        let found = picture.miswired(&service(), now_ms).into_iter();
        let found = found.map(|one| format!("{} {}", one.reporter, one.findings.len()));
        found.collect::<Vec<_>>()
    };
    picture.put(&wired(1, 1, &["a", "b"]));
    picture.put(&wired(2, 1, &[]));
    picture.put(&wired(3, 1, &["a"]));
    assert_eq!(found(&mut picture, 9), ["e1 2", "e3 1"]);
    picture.put(&wired(1, 2, &[]));
    assert_eq!(found(&mut picture, 9), ["e3 1"]);
    assert!(found(&mut picture, 10).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Report(u8, u64, Vec<(u8, u64)>),
    Remove(u8),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Some that are near the top, for the sums that stay there.
    let in_flight = prop_oneof![3 => 0..5u64, 1 => (u64::MAX - 3)..=u64::MAX];
    let instances = prop::collection::vec((0..6u8, in_flight), 0..8);
    let step = prop_oneof![
        6 => (0..12u8, 1..40u64, instances).prop_map(|(who, ms, on)| Step::Report(who, ms, on)),
        1 => (0..12u8).prop_map(Step::Remove),
        2 => (0..20u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn the_rest_is_what_all_reports_add_up_to(steps in steps(), asker in 0..13u8) {
        let (mut picture, mut now_ms) = (Picture::default(), 0);
        let mut known: BTreeMap<ReporterId, StoredLoad> = BTreeMap::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Report(who, alive_ms, on) => {
                    let load = load(who, at.try_into().unwrap(), now_ms + alive_ms, &on);
                    picture.put(&load);
                    known.insert(load.reporter.clone(), load);
                }
                Step::Remove(who) => {
                    picture.retain(|reporter| *reporter != name(who));
                    known.remove(&name(who));
                }
                Step::Pass(ms) => now_ms += ms,
            }
            let alive: Vec<StoredLoad> =
                known.values().filter(|load| load.is_alive(now_ms)).cloned().collect();
            let expected = loads::rest(&service(), &alive, Some(&name(asker)));
            prop_assert_eq!(picture.rest(&service(), &name(asker), now_ms), expected);
            prop_assert_eq!(picture.len(), alive.len());
            prop_assert_eq!(picture.columns.len(), picture.places.len() + picture.free.len());
        }
    }
}
