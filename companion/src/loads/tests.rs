use super::*;
use crate::door::credentials::Principal;
use proptest::prelude::*;
use unitring_protocol::report::EventKind;

fn report(reporter: &str, sequence: u64, calls: u64, in_flight: u64) -> Report {
    let instance = InstanceLoad {
        calls,
        in_flight,
        ..samples::instance("10.0.0.1:80")
    };
    let events = [1, 2].map(|number| samples::event(EventKind::Added, &instance, number));
    samples::report(
        (reporter, sequence),
        "orders",
        vec![instance],
        events.into(),
    )
}

fn step(last: Option<&StoredLoad>, report: &Report) -> Option<Advance> {
    advance(last, &samples::load_report(report), 10_000)
}

#[test]
fn an_older_report_is_dropped_and_known_events_are_not_stored_again() {
    let first = step(None, &report("e1", 7, 10, 1)).unwrap();
    assert_eq!(first.events.len(), 2);
    assert_eq!(first.next.events_through, 2);
    assert_eq!(step(Some(&first.next), &report("e1", 7, 10, 1)), None);
    assert_eq!(step(Some(&first.next), &report("e1", 6, 10, 1)), None);
    let second = step(Some(&first.next), &report("e1", 8, 10, 1)).unwrap();
    assert_eq!(second.events, []);
    assert!(second.growth.is_empty());
}

#[test]
fn nobody_is_silenced_by_a_sequence_of_the_future() {
    let at = |last: &StoredLoad, sequence, now_ms| {
        let report = report("e1", sequence, 10, 1);
        advance(Some(last), &samples::load_report(&report), now_ms)
    };
    let invented = step(None, &report("e1", u64::MAX, 10, 1)).unwrap().next;
    assert!(at(&invented, 10_001, 10_001).is_some());
    // A clock that is an hour ahead orders its own reports, as long as they come.
    let hour = 3_600_000;
    let ahead = step(None, &report("e1", 10_000 + hour, 10, 1))
        .unwrap()
        .next;
    assert!(at(&ahead, 9_999 + hour, 10_001).is_none());
    assert!(at(&ahead, 20_000, ahead.alive_until_ms).is_some());
}

#[test]
fn a_living_report_is_replaced_by_its_owner_only() {
    let last = step(None, &report("e1", 1, 10, 1)).unwrap().next;
    let other = Owner::unit(&"west".parse().unwrap());
    assert!(may_replace(None, &other, 10_000));
    assert!(may_replace(Some(&last), &samples::owner(), 10_001));
    assert!(!may_replace(Some(&last), &other, 10_001));
    assert!(may_replace(Some(&last), &other, last.alive_until_ms));
    let of_older = StoredLoad {
        owner: None,
        ..last
    };
    assert!(may_replace(Some(&of_older), &other, 10_001));
}

#[test]
fn the_quietest_makes_room_and_strangers_first() {
    let known = samples::owner();
    let stranger = Owner::client(&Principal::Address(
        std::net::IpAddr::from([10, 0, 0, 1]).into(),
    ));
    let now = 1_000_000;
    for (newcomer, of, ago_ms, makes_room) in [
        (&known, &known, 9_000, false),
        (&known, &known, 11_000, true),
        (&known, &stranger, 0, true),
        (&stranger, &stranger, 9_000, false),
        (&stranger, &stranger, 11_000, true),
        (&stranger, &known, 600_000, false),
        (&stranger, &known, 611_000, true),
    ] {
        let is_below = standing(of, now - ago_ms) < makes_room_below(newcomer, now);
        assert_eq!(is_below, makes_room, "{newcomer:?} {of:?} {ago_ms}");
    }
}

#[test]
fn the_rest_leaves_the_asker_out() {
    let loads: Vec<StoredLoad> = [("e1", 3), ("e2", 5), ("e3", 7)]
        .map(|(name, in_flight)| step(None, &report(name, 1, 0, in_flight)).unwrap().next)
        .into();
    let service = "orders".parse().unwrap();
    let me = "e2".parse().unwrap();
    let snapshot = rest(&service, &loads, Some(&me));
    assert_eq!((snapshot.reporters, snapshot.rest[0].in_flight), (2, 10));
    assert_eq!(rest(&service, &loads, None).rest[0].in_flight, 15);
}

#[test]
fn each_asker_is_told_its_place_so_that_all_divide_the_same() {
    let loads: Vec<StoredLoad> = [("e2", 5), ("e3", 7), ("e1", 3)]
        .map(|(name, in_flight)| step(None, &report(name, 1, 0, in_flight)).unwrap().next)
        .into();
    let told = |me: &str| {
        let me = me.parse().unwrap();
        let snapshot = rest(&"orders".parse().unwrap(), &loads, Some(&me));
        let on = &snapshot.rest[0];
        (snapshot.rank, on.own, on.in_flight, on.before)
    };
    assert_eq!(told("e1"), (Some(0), 3, 12, 0));
    assert_eq!(told("e2"), (Some(1), 5, 10, 3));
    assert_eq!(told("e3"), (Some(2), 7, 8, 8));
    assert_eq!(told("new"), (Some(3), 0, 15, 15));
}

#[test]
fn an_address_that_is_listed_twice_adds_its_growth_once() {
    let twice = |sequence, calls: [u64; 2]| {
        let instances = calls.map(|calls| InstanceLoad {
            calls,
            in_flight: calls,
            ..samples::instance("10.0.0.1:80")
        });
        samples::report(("e1", sequence), "orders", instances.into(), Vec::new())
    };
    let first = step(None, &twice(1, [10, 0])).unwrap();
    assert_eq!(first.growth["10.0.0.1:80"].calls, 10);
    // Either entry may have the counts now.
    let second = step(Some(&first.next), &twice(2, [0, 13])).unwrap();
    assert_eq!(second.growth["10.0.0.1:80"].calls, 3);
    assert_eq!(second.next.instances.len(), 2);
    let loads = [second.next.clone()];
    assert!(in_flight(&loads).values().eq(&[13]));
    let idle = step(Some(&second.next), &twice(3, [13, 0])).unwrap();
    assert!(idle.growth.is_empty());
}

#[test]
fn one_report_of_huge_numbers_shifts_the_picture_by_a_bounded_amount() {
    let mut huge = report("invented", 1, u64::MAX, u64::MAX);
    for part in &mut huge.services {
        let one = part.instances[0].clone();
        part.instances = vec![one; 1_000];
    }
    let huge = step(None, &huge).unwrap();
    assert_eq!(huge.cut.loads, 1_000);
    let honest = step(None, &report("e1", 1, 10, 3)).unwrap();
    let (service, me) = ("orders".parse().unwrap(), "e1".parse().unwrap());
    let loads = [huge.next, honest.next];
    let expected = (plausible::IN_FLIGHT_MAX, 3);
    let rest = rest(&service, &loads, Some(&me));
    assert_eq!((rest.rest[0].in_flight, rest.rest[0].own), expected);
    let mut picture = picture::Picture::default();
    loads.iter().for_each(|load| picture.put(load));
    let rest = picture.rest(&service, &me, 0);
    assert_eq!((rest.rest[0].in_flight, rest.rest[0].own), expected);
}

#[test]
fn a_newer_report_is_refused_with_a_clear_text() {
    let mut newer = report("e1", 1, 0, 0);
    newer.version = 2;
    let error = check(&newer).unwrap_err().to_string();
    assert!(error.contains("version 2: newer than 1"), "{error}");
}

proptest! {
    #[test]
    fn totals_are_the_last_counter_whatever_was_lost_or_repeated(
        mut counters in prop::collection::vec(0u64..1_000_000, 1..20),
        repeats in prop::collection::vec(0usize..3, 20),
    ) {
        counters.sort_unstable();
        let mut last = None;
        let mut total = Totals::default();
        for (index, (calls, repeat)) in counters.iter().zip(repeats).enumerate() {
            for _ in 0..repeat {
                let report = report("e1", u64::try_from(index).unwrap(), *calls, 0);
                let Some(advance) = step(last.as_ref(), &report) else { continue };
                for growth in advance.growth.values() {
                    total = total.plus(*growth);
                }
                last = Some(advance.next);
            }
        }
        let seen = last.map_or(0, |last| last.instances[0].calls);
        prop_assert_eq!(total.calls, seen);
    }
}
