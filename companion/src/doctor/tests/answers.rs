//! A companion's answers, with one thing wrong in them.

use unitring_protocol::PROTOCOL_VERSION;

use super::*;

/// The answers of a healthy unit of two.
fn healthy() -> Answers {
    let link = json!({"state": "ok", "confirmed": 7, "compared": null, "lag": null, "clock_skew_ms": 2, "clock_skew_alarm": false});
    Answers {
        ready: json!({"unit": "east", "role": "leader", "ready": true, "checks": {"store": "ok", "link": "ok"}, "wiring": []}),
        units: Ok(json!({
            "unit": "east", "role": "leader", "version": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL_VERSION,
            "store": {"kind": "redis", "maxmemory_policy": "noeviction", "maxmemory": 0, "appendonly": true, "snapshots": false},
            "store_clock_ahead_ms": -3, "spoiled": {},
            "sync": {"link": "ok", "inbox": "ok", "links": {"west": link}, "outbox": 3, "outbox_max": 1_000_000},
        })),
        services: Ok(vec![json!({
            "service": "orders", "registry": [], "instances": [],
            "reporters": [{"reporter": "edge-1", "ring": "a", "fallbacks": 0, "wiring": []}],
        })]),
        group: Some(json!({"healthy": true, "problems": [], "servers": []})),
    }
}

fn judged(answers: &Answers) -> Vec<Finding> {
    let known = [Known {
        service: "orders".to_owned(),
        key: Vec::new(),
        reports: true,
    }];
    of_companion("http://127.0.0.1:7001", answers, &known, None)
}

type Break = fn(&mut Answers);

fn in_units(answers: &mut Answers, object: &str, field: &str, value: Value) {
    set(answers.units.as_mut().unwrap(), object, field, value);
}

/// A code, a part of the finding's text, and the fault to cause.
pub(super) fn seeds() -> impl Iterator<Item = (Code, &'static str, Break)> {
    let seeds: Vec<(Code, &'static str, Break)> = vec![
        (Code::Protocol, "speaks protocol 9", |one| {
            in_units(one, "", "protocol", json!(9))
        }),
        (Code::Version, "the companion is 0.0.9", |one| {
            in_units(one, "", "version", json!("0.0.9"))
        }),
        (Code::Version, "does not tell its version", |one| {
            unset(one.units.as_mut().unwrap(), "", "protocol")
        }),
        (Code::NotReady, "store: no connection", |one| {
            set(&mut one.ready, "/checks", "store", json!("no connection"));
        }),
        (Code::Miswired, "hash_policy: a route", |one| {
            let finding = json!({"kind": "hash_policy", "seen": "a route of virtual host all", "mend": "the same sources"});
            set(
                &mut one.services.as_mut().unwrap()[0],
                "/reporters/0",
                "wiring",
                json!([finding]),
            );
        }),
        (Code::NoReports, "service orders", |one| {
            set(
                &mut one.services.as_mut().unwrap()[0],
                "",
                "reporters",
                json!([]),
            );
        }),
        (Code::NotAllowed, "401", |one| {
            one.units = Err("401".to_owned())
        }),
        (Code::Evicts, "allkeys-lru, maxmemory is 100 bytes", |one| {
            in_units(one, "/store", "maxmemory_policy", json!("allkeys-lru"));
            in_units(one, "/store", "maxmemory", json!(100));
        }),
        (Code::NotKept, "save is empty", |one| {
            in_units(one, "/store", "appendonly", json!(false))
        }),
        (Code::SnapshotsOnly, "snapshots are made", |one| {
            in_units(one, "/store", "appendonly", json!(false));
            in_units(one, "/store", "snapshots", json!(true));
        }),
        (Code::StoreClock, "-2500 ms", |one| {
            in_units(one, "", "store_clock_ahead_ms", json!(-2500))
        }),
        (Code::Group, "no primary answers", |one| {
            one.group = Some(json!({"healthy": false, "problems": ["no primary answers"]}));
        }),
        (Code::Spoiled, "1 records cannot be read: carts/1", |one| {
            in_units(one, "", "spoiled", json!({"carts/1": "no version"}));
        }),
        (Code::LinkDown, "not connected yet", |one| {
            in_units(one, "/sync/links/west", "state", json!("not connected yet"));
        }),
        (Code::LinkDown, "no message from west for 40 s", |one| {
            in_units(one, "/sync/links/west", "silent_ms", json!(40_000));
        }),
        (Code::ClockSkew, "3000 ms ahead", |one| {
            in_units(one, "/sync/links/west", "clock_skew_ms", json!(3000));
            in_units(one, "/sync/links/west", "clock_skew_alarm", json!(true));
        }),
        (Code::TooLarge, "carts/1: 2000000 bytes", |one| {
            let records =
                json!({"carts/1": "2000000 bytes in a message, its broker takes 1000000"});
            in_units(one, "/sync/links/west", "unsendable", records);
        }),
        (Code::Namesake, "in the name of west", |one| {
            in_units(one, "/sync", "namesakes", json!({"west": 1}))
        }),
        (Code::SetAside, "carts/1: too long", |one| {
            in_units(
                one,
                "/sync",
                "set_aside",
                json!({"west: carts/1": "too long"}),
            );
        }),
        (
            Code::SetAside,
            "south sends messages and is no member of the group",
            |one| {
                in_units(
                    one,
                    "/sync",
                    "strangers",
                    json!({"south": {"messages": 1, "last_ms": 1}}),
                );
            },
        ),
        (Code::OutboxFull, "900000 of at most 1000000", |one| {
            in_units(one, "/sync", "outbox", json!(900_000))
        }),
    ];
    seeds.into_iter()
}

#[test]
fn a_healthy_unit_has_no_finding() {
    assert_eq!(judged(&healthy()), []);
}

#[test]
fn each_fault_of_a_unit_has_its_finding_and_no_other() {
    for (code, seen, break_it) in seeds() {
        let mut answers = healthy();
        break_it(&mut answers);
        let found = judged(&answers);
        assert_eq!(codes(&found), BTreeSet::from([code]), "{found:#?}");
        assert!(found[0].seen.contains(seen), "{seen}: {found:#?}");
    }
}

#[test]
fn a_follower_does_not_know_the_links() {
    let mut answers = healthy();
    in_units(&mut answers, "", "role", json!("follower"));
    in_units(
        &mut answers,
        "/sync/links/west",
        "state",
        json!("another companion of the unit syncs"),
    );
    assert_eq!(judged(&answers), []);
}

#[test]
fn what_redis_does_not_tell_is_no_finding() {
    let mut answers = healthy();
    in_units(&mut answers, "", "store", json!({"kind": "redis"}));
    assert_eq!(judged(&answers), []);
    in_units(&mut answers, "", "store", json!(null));
    assert_eq!(judged(&answers), []);
}

#[test]
fn only_the_service_that_is_asked_for_is_looked_at() {
    let mut answers = healthy();
    let finding = json!({"kind": "stats", "seen": "a", "mend": "b"});
    set(
        &mut answers.services.as_mut().unwrap()[0],
        "/reporters/0",
        "wiring",
        json!([finding]),
    );
    assert_eq!(of_companion("", &answers, &[], Some("carts")), []);
    assert_eq!(of_companion("", &answers, &[], Some("orders")).len(), 1);
}
