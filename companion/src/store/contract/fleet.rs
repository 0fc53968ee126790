//! The contract of a store for registry, loads and events.

use unitring_protocol::ids::ServiceName;
use unitring_protocol::report::{EventKind, Finding, InstanceLoad, Report};

use crate::events::Entry;
use crate::loads::plausible::IN_FLIGHT_MAX;
use crate::loads::samples;
use crate::registry::{Registered, Registration};
use crate::store::{EVENTS_BYTES_MAX, Store};

/// The contract of several companions' handles on one store: each knows the reports that the others took.
pub async fn shared_fleet(one: &dyn Store, other: &dyn Store) {
    for (number, store) in [(1, one), (2, other), (3, other), (4, one)] {
        for reporter in ["e1", "e2", "e3"] {
            let taken = report(&format!("{reporter}-{number}"), number, 1, &[]);
            take(store, &taken, 1_000 * number).await;
            let again = report("e0", number * 10 + 1, 1, &[]);
            take(other, &again, 1_000 * number).await;
            rest_is_the_sum(one, "e0", 1_000 * number).await;
            rest_is_the_sum(other, "e1-1", 1_000 * number).await;
        }
    }
    rest_is_the_sum(one, "e2-2", 6_500).await;
    rest_is_the_sum(other, "e2-2", 7_500).await;
    assert!(other.miswired(5_000).await.unwrap().is_empty());
    let mut wrong = report("e9", 1, 1, &[]);
    wrong.services[0].wiring.push(samples::finding("a"));
    take(one, &wrong, 5_000).await;
    assert_eq!(other.miswired(5_000).await.unwrap().len(), 1);
}

/// The same, of handles whose store has lost everything since [`shared_fleet`].
pub async fn shared_fleet_after_loss(one: &dyn Store, other: &dyn Store) {
    rest_is_the_sum(one, "e0", 4_500).await;
    take(one, &report("e3-4", 50, 1, &[]), 4_500).await;
    rest_is_the_sum(one, "e0", 4_500).await;
    rest_is_the_sum(other, "e0", 4_500).await;
    take(other, &report("e0", 50, 1, &[]), 4_600).await;
    rest_is_the_sum(one, "e1", 4_600).await;
    rest_is_the_sum(other, "e1", 4_600).await;
}

pub(super) async fn take(store: &dyn Store, report: &Report, now_ms: u64) {
    store
        .take(&samples::load_report(report), EVENTS_BYTES_MAX, now_ms)
        .await
        .unwrap();
}

/// The load of the rest of the fleet equals the sum of all other loads.
pub async fn rest_is_the_sum(store: &dyn Store, reporter: &str, now_ms: u64) {
    let (service, reporter) = ("carts".parse().unwrap(), reporter.parse().unwrap());
    let loads = store.loads(&service, now_ms).await.unwrap();
    let sum = crate::loads::rest(&service, &loads, Some(&reporter));
    let rest = store.rest(&service, &reporter, now_ms).await.unwrap();
    assert_eq!(rest, sum, "{reporter} at {now_ms}");
}

pub async fn the_rest_is_what_the_loads_add_up_to(store: &dyn Store) {
    let service = "carts".parse().unwrap();
    for reporter in ["e0", "e1", "e2", "e3"] {
        rest_is_the_sum(store, reporter, 10_002).await;
    }
    let of = |reporter: &str| reporter.parse().unwrap();
    let first = store.rest(&service, &of("e1"), 10_002).await.unwrap();
    assert_eq!((first.reporters, first.rank), (1, Some(0)));
    assert_eq!((first.rest[0].in_flight, first.rest[0].own), (4, 4));
    let second = store.rest(&service, &of("e2"), 10_002).await.unwrap();
    assert_eq!((second.rank, second.rest[0].before), (Some(1), 4));
    // A report is visible at once.
    take(store, &report("e3", 1, 0, &[]), 10_002).await;
    let first = store.rest(&service, &of("e1"), 10_002).await.unwrap();
    assert_eq!((first.reporters, first.rest[0].in_flight), (2, 8));
    rest_is_the_sum(store, "e2", 10_002).await;
    let unknown = "nobody".parse().unwrap();
    let unknown = store.rest(&unknown, &of("e1"), 10_002).await.unwrap();
    assert_eq!(unknown.reporters, 0);
}

fn registered(port: u16, weight: u32, expires_ms: Option<u64>) -> Registered {
    let address = format!("10.0.0.1:{port}");
    Registered {
        id: address.parse().unwrap(),
        address: address.parse().unwrap(),
        weight: weight.try_into().unwrap(),
        draining: false,
        expires_ms,
    }
}

pub async fn an_order_to_drain_outlasts_heartbeats(store: &dyn Store) {
    let service = "drained".parse().unwrap();
    let last = store.events(None, 1).await.unwrap();
    let instance = registered(9, 1, None);
    let draining = Registered {
        draining: true,
        ..instance.clone()
    };
    let revision = store.revision().await.unwrap();
    for (said, keeps, done, is, step) in [
        (&instance, true, Registration::Created, &instance, 1),
        (&draining, false, Registration::Changed, &draining, 2),
        (&draining, false, Registration::Renewed, &draining, 2),
        (&instance, true, Registration::Renewed, &draining, 2),
        (&instance, false, Registration::Changed, &instance, 3),
    ] {
        let answer = store.register(&service, said, keeps, 100).await.unwrap();
        assert_eq!(answer, (done, is.clone()));
        assert_eq!(store.revision().await.unwrap(), revision + step);
        let registry = store.registry().await.unwrap();
        assert!(registry.instances("drained").eq([is]));
    }
    let after = last.last().map(|(cursor, _)| *cursor);
    let events = store.events(after.or(Some(Default::default())), 100).await;
    let kinds: Vec<EventKind> = events
        .unwrap()
        .iter()
        .map(|(_, entry)| kind(entry))
        .collect();
    let expected = [EventKind::Added, EventKind::Ejected, EventKind::Recovered];
    assert_eq!(kinds, expected);
    assert!(store.unregister(&service, &instance.id, 200).await.unwrap());
}

pub async fn a_registration_is_created_changed_renewed_and_expires(store: &dyn Store) {
    let service = "orders".parse().unwrap();
    let revision = store.revision().await.unwrap();
    for (instance, done, step) in [
        (registered(1, 1, Some(500)), Registration::Created, 1),
        (registered(1, 1, Some(900)), Registration::Renewed, 1),
        (registered(1, 2, Some(1_000)), Registration::Changed, 2),
        (registered(2, 1, None), Registration::Created, 3),
    ] {
        assert_eq!(
            store
                .register(&service, &instance, true, 100)
                .await
                .unwrap(),
            (done, instance)
        );
        assert_eq!(store.revision().await.unwrap(), revision + step);
    }
    assert_eq!(store.expire(999).await.unwrap(), 0);
    assert_eq!(store.expire(1_000).await.unwrap(), 1);
    assert_eq!(store.expire(1_000).await.unwrap(), 0);
    let registry = store.registry().await.unwrap();
    assert_eq!(registry.revision, revision + 4);
    let left: Vec<_> = registry.instances("orders").cloned().collect();
    assert_eq!(left, [registered(2, 1, None)]);
    let id = &registered(2, 1, None).id;
    assert!(store.unregister(&service, id, 2_000).await.unwrap());
    assert!(!store.unregister(&service, id, 2_000).await.unwrap());
    let kinds: Vec<EventKind> = store
        .events(None, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, entry)| kind(&entry))
        .collect();
    use EventKind::{Added, Removed};
    assert_eq!(kinds, [Added, Added, Removed, Removed]);
}

fn report(reporter: &str, sequence: u64, calls: u64, events: &[u64]) -> Report {
    let instance = InstanceLoad {
        calls,
        in_flight: 4,
        updates: 1,
        ..samples::instance("10.0.0.9:80")
    };
    let event = |&number: &u64| samples::event(EventKind::Ejected, &instance, number);
    let events = events.iter().map(event).collect();
    samples::report((reporter, sequence), "carts", vec![instance], events)
}

pub async fn a_report_is_taken_once_and_adds_its_growth(store: &dyn Store) {
    let service = "carts".parse().unwrap();
    for (report, old, events_through, events, calls) in [
        (report("e1", 10, 5, &[1, 2]), false, 2, 2, 5),
        (report("e1", 10, 5, &[1, 2]), true, 2, 0, 5),
        (report("e1", 9, 4, &[1]), true, 2, 0, 5),
        (report("e2", 1, 100, &[]), false, 0, 0, 105),
        (report("e1", 11, 8, &[2, 3]), false, 3, 1, 108),
    ] {
        let taken = store
            .take(&samples::load_report(&report), EVENTS_BYTES_MAX, 10_000)
            .await
            .unwrap();
        assert_eq!((taken.old, taken.events_through), (old, events_through));
        assert_eq!(taken.events.len(), events);
        assert_eq!(
            store.totals(&service).await.unwrap()["10.0.0.9:80"].calls,
            calls
        );
    }
    let loads = store.loads(&service, 10_001).await.unwrap();
    assert_eq!(loads.len(), 2);
    assert!(store.reported().await.unwrap().contains(&service));
}

pub async fn a_reporter_that_is_silent_is_no_longer_counted(store: &dyn Store) {
    let service = "carts".parse().unwrap();
    assert_eq!(store.loads(&service, 14_999).await.unwrap().len(), 3);
    rest_is_the_sum(store, "e1", 14_999).await;
    assert_eq!(store.loads(&service, 15_002).await.unwrap().len(), 0);
    rest_is_the_sum(store, "e1", 15_000).await;
    rest_is_the_sum(store, "e1", 15_002).await;
    // Back in time, its counters still count from where they were.
    let report = report("e1", 12, 9, &[]);
    let taken = store
        .take(&samples::load_report(&report), EVENTS_BYTES_MAX, 60_000)
        .await
        .unwrap();
    assert_eq!(taken.growth.values().next().unwrap().calls, 1);
    rest_is_the_sum(store, "e1", 60_000).await;
    rest_is_the_sum(store, "e2", 60_000).await;
    // Forgotten, together with the counters of its instance.
    store.expire(10_000_000).await.unwrap();
    assert!(store.reported().await.unwrap().is_empty());
    assert!(store.totals(&service).await.unwrap().is_empty());
    rest_is_the_sum(store, "e1", 10_000_000).await;
}

pub async fn a_service_is_forgotten_with_its_counters(store: &dyn Store) {
    let (carts, kept) = ("carts".parse().unwrap(), "kept".parse().unwrap());
    let other = samples::report(
        ("e1", 1),
        "kept",
        vec![samples::instance("10.0.0.1:80")],
        vec![],
    );
    take(store, &report("e1", 1, 5, &[]), 12_000_000).await;
    take(store, &other, 12_000_000).await;
    // Its reporter is silent, and remembered still.
    rest_is_the_sum(store, "e2", 12_060_000).await;
    assert!(store.forget_service(&carts).await.unwrap());
    assert!(!store.forget_service(&carts).await.unwrap());
    assert!(store.totals(&carts).await.unwrap().is_empty());
    rest_is_the_sum(store, "e2", 12_060_001).await;
    assert_eq!(store.reported().await.unwrap(), [kept].into());
    // It counts from where the reporter is now.
    take(store, &report("e1", 2, 9, &[]), 12_060_002).await;
    rest_is_the_sum(store, "e2", 12_060_002).await;
    store.expire(14_000_000).await.unwrap();
}

pub async fn a_silent_service_is_forgotten_after_ten_minutes(store: &dyn Store) {
    let names = ["early", "late"].map(|name| name.parse::<ServiceName>().unwrap());
    // A reporter counts for five seconds after its report. A store looks at most once a minute.
    let (start_ms, until_ms, minute_ms) = (100_000_000, 605_000, 60_000);
    for (name, at_ms) in names.iter().zip([start_ms, start_ms + minute_ms]) {
        let mut instance = samples::instance("10.0.0.1:80");
        instance.calls = 5;
        let report = samples::report(("e1", at_ms), name.as_str(), vec![instance], vec![]);
        take(store, &report, at_ms).await;
    }
    let just_before_ms = start_ms + until_ms - 1;
    for (at_ms, known) in [
        (just_before_ms, &names[..]),
        (just_before_ms + minute_ms, &names[1..]),
        (just_before_ms + 2 * minute_ms, &[]),
    ] {
        store.expire(at_ms).await.unwrap();
        let reported = store.reported().await.unwrap();
        assert!(reported.iter().eq(known), "at {at_ms}: {reported:?}");
        for name in &names {
            let is_known = known.contains(name);
            let totals = store.totals(name).await.unwrap();
            assert_eq!(!totals.is_empty(), is_known, "{name} at {at_ms}");
        }
    }
}

pub async fn who_is_wired_wrongly_is_told_while_it_is(store: &dyn Store) {
    let report = |reporter: &str, sequence, kinds: &[&str]| {
        let mut report = samples::report((reporter, sequence), "wired", vec![], vec![]);
        let findings = kinds.iter().map(|kind| samples::finding(kind));
        report.services[0].wiring = findings.collect();
        report
    };
    let found = async |now_ms| {
        let found = store.miswired(now_ms).await.unwrap();
        let found = found.iter().map(|one| {
            let kinds: Vec<_> = one.findings.iter().map(|it| it.kind.as_str()).collect();
            format!("{} {} {}", one.service, one.reporter, kinds.join(","))
        });
        found.collect::<Vec<_>>()
    };
    assert!(found(15_000_000).await.is_empty());
    take(store, &report("e1", 1, &["a", "b"]), 15_000_000).await;
    take(store, &report("e2", 1, &["c"]), 15_000_000).await;
    assert_eq!(found(15_000_001).await, ["wired e1 a,b", "wired e2 c"]);
    let loads = store.loads(&"wired".parse().unwrap(), 15_000_001).await;
    assert_eq!(
        loads.unwrap()[0].wiring(),
        report("e1", 1, &["a", "b"]).services[0].wiring
    );
    // Mended, and then more findings than the store keeps.
    take(store, &report("e1", 2, &[]), 15_000_002).await;
    let many = report("e2", 2, &["d"; 20]);
    let taken = store
        .take(&samples::load_report(&many), EVENTS_BYTES_MAX, 15_000_002)
        .await;
    let taken = taken.unwrap();
    assert_eq!(taken.cut.findings, 4);
    let kinds = |findings: &[Finding]| -> Vec<String> {
        findings.iter().map(|it| it.kind.clone()).collect()
    };
    let changed = (kinds(&taken.wiring.found), kinds(&taken.wiring.mended));
    assert_eq!(changed, (vec!["d".to_owned()], vec!["c".to_owned()]));
    assert_eq!(found(15_000_003).await.len(), 1);
    assert!(
        found(15_006_000).await.is_empty(),
        "who is silent says nothing"
    );
}

pub async fn events_are_read_on_from_a_cursor(store: &dyn Store) {
    let all = store.events(None, 1_000).await.unwrap();
    assert!(all.is_sorted_by_key(|(cursor, _)| *cursor));
    let (third, _) = all[2];
    assert_eq!(store.events(Some(third), 1_000).await.unwrap(), all[3..]);
    assert_eq!(store.events(Some(third), 2).await.unwrap(), all[3..5]);
    assert_eq!(store.events(None, 2).await.unwrap(), all[all.len() - 2..]);
    let (last, _) = all[all.len() - 1];
    assert_eq!(store.events(Some(last), 10).await.unwrap(), []);
}

pub async fn counters_stay_at_the_top(store: &dyn Store) {
    let service = "carts".parse().unwrap();
    for name in ["big1", "big2", "big3"] {
        take(store, &report(name, 1, u64::MAX, &[]), 20_000_000).await;
    }
    let totals = store.totals(&service).await.unwrap();
    let calls = totals["10.0.0.9:80"].calls;
    assert!(calls >= i64::MAX.unsigned_abs(), "{calls}");
    assert_eq!(totals["10.0.0.9:80"].updates, 3);
}

/// As the report of an invented Envoy, in which an instance occurs more than once, too.
pub async fn a_report_of_huge_numbers_is_kept_as_what_can_be_true(store: &dyn Store) {
    let instance = InstanceLoad {
        in_flight: u64::MAX,
        ..samples::instance("10.0.0.9:80")
    };
    let instances = vec![instance; 3];
    let report = samples::report(("huge", 1), "huge", instances, vec![]);
    let part = &report.services[0];
    let taken = store
        .take(&samples::load_report(&report), EVENTS_BYTES_MAX, 19_000_000)
        .await
        .unwrap();
    assert_eq!(taken.cut.loads, 3);
    let rest = store
        .rest(&part.service, &"e1".parse().unwrap(), 19_000_000)
        .await
        .unwrap();
    let in_flight: Vec<u64> = rest.rest.iter().map(|rest| rest.in_flight).collect();
    assert_eq!(in_flight, [IN_FLIGHT_MAX]);
}

fn kind(entry: &Entry) -> EventKind {
    match entry {
        Entry::Instance(event) => event.kind,
        Entry::Group(event) => panic!("{event:?}"),
    }
}
