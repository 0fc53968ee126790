//! What every store promises, as a suite. The embedded store runs it in this crate's own tests; a
//! test that brings a Redis runs it there (feature `contract-tests`).
//!
//! Each function wants empty stores, and panics on a broken promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;

use unitring_protocol::digest::BucketState;
use unitring_protocol::record::{Record, RecordId, VALUE_BYTES_MAX, Version};
use unitring_protocol::report::{
    EventKind, InstanceEvent, InstanceLoad, Report, RingReport, RingShape, ServiceReport,
};

use super::digest::{bucket_of, mark_of, share};
use super::{Applied, BATCH_MAX, Batch, Fleet, Page, Records};
use crate::registry::{Registered, Registration};

/// The id of a record.
pub fn id(dataset: &str, key: &str) -> RecordId {
    RecordId {
        dataset: dataset.parse().unwrap(),
        key: key.parse().unwrap(),
    }
}

/// The promises about records. `east` and `west` are empty stores of these two units, both with
/// peers.
pub async fn records(east: &dyn Records, west: &dyn Records) {
    a_write_is_read_back_with_its_version(east).await;
    versions_grow_even_if_the_clock_does_not(east).await;
    a_deleted_record_is_a_tombstone_and_cannot_be_deleted_again(east).await;
    the_digest_is_the_xor_of_all_shares(east).await;
    ops_wait_in_order_until_they_are_trimmed(east).await;
    what_is_applied_is_the_same_there(east, west).await;
    a_repeated_batch_changes_nothing(east, west).await;
    an_older_version_changes_nothing_and_a_tie_goes_to_the_later_unit(west).await;
    a_gap_is_applied_but_not_claimed(west).await;
    a_claim_moves_positions_and_the_own_sequence(west).await;
    a_large_value_and_strange_keys_survive(east, west).await;
}

async fn put(store: &dyn Records, key: &str, value: &[u8], now_ms: u64) -> Version {
    let written = store
        .write(&id("d", key), Some(value), now_ms)
        .await
        .unwrap();
    written.unwrap().version
}

async fn state(store: &dyn Records, bucket: u8) -> BucketState {
    let states = store.states().await.unwrap();
    let found = states.into_iter().find(|state| state.bucket == bucket);
    found.unwrap_or_default()
}

async fn all(store: &dyn Records, bucket: u8) -> Vec<Record> {
    let mut page = Page::first();
    let mut all = Vec::new();
    while !page.is_done() {
        let (records, next) = store.page(bucket, page).await.unwrap();
        assert!(records.len() <= BATCH_MAX);
        all.extend(records);
        page = next;
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

async fn a_write_is_read_back_with_its_version(east: &dyn Records) {
    let record = id("d", "first");
    assert_eq!(east.read(&record).await.unwrap(), None);
    let written = east
        .write(&record, Some(b"one"), 1_000)
        .await
        .unwrap()
        .unwrap();
    assert!(written.created);
    assert_eq!(written.version.to_string(), "1000.0@east");
    let read = east.read(&record).await.unwrap().unwrap();
    assert_eq!(read.value.unwrap().0, b"one");
    assert_eq!(read.version, written.version);
    let written = east
        .write(&record, Some(b"two"), 2_000)
        .await
        .unwrap()
        .unwrap();
    assert!(!written.created);
    assert_eq!(
        east.read(&record).await.unwrap().unwrap().value.unwrap().0,
        b"two"
    );
}

async fn versions_grow_even_if_the_clock_does_not(east: &dyn Records) {
    let first = put(east, "same", b"1", 5_000).await;
    let second = put(east, "same", b"2", 5_000).await;
    let third = put(east, "same", b"3", 4_000).await;
    assert_eq!(first.to_string(), "5000.0@east");
    assert_eq!(second.to_string(), "5000.1@east");
    assert_eq!(third.to_string(), "5000.2@east");
}

async fn a_deleted_record_is_a_tombstone_and_cannot_be_deleted_again(east: &dyn Records) {
    let gone = id("d", "gone");
    assert_eq!(east.write(&gone, None, 6_000).await.unwrap(), None);
    put(east, "gone", b"x", 6_000).await;
    let deleted = east.write(&gone, None, 6_001).await.unwrap().unwrap();
    let tombstone = east.read(&gone).await.unwrap().unwrap();
    assert_eq!(
        (tombstone.value, tombstone.version),
        (None, deleted.version)
    );
    assert_eq!(east.write(&gone, None, 6_002).await.unwrap(), None);
    assert!(
        east.write(&gone, Some(b"y"), 6_003)
            .await
            .unwrap()
            .unwrap()
            .created
    );
}

async fn the_digest_is_the_xor_of_all_shares(east: &dyn Records) {
    for state in east.states().await.unwrap() {
        let records = all(east, state.bucket).await;
        let expected = records.iter().fold(0, |digest, record| {
            digest ^ share(&record.id.to_string(), &mark_of(record)).0
        });
        assert_eq!(state.digest.0, expected, "bucket {}", state.bucket);
    }
}

async fn ops_wait_in_order_until_they_are_trimmed(east: &dyn Records) {
    let bucket = bucket_of(&id("d", "same"));
    let waiting = east.waiting().await.unwrap();
    let ops = east.outbox(bucket, 0).await.unwrap();
    let sequences: Vec<u64> = ops.iter().map(|op| op.sequence).collect();
    assert_eq!(sequences, (1..=waiting[&bucket]).collect::<Vec<_>>());
    assert_eq!(
        state(east, bucket).await.positions["east"],
        waiting[&bucket]
    );
    assert_eq!(east.trim(bucket, 2).await.unwrap(), 2);
    assert_eq!(east.outbox(bucket, 0).await.unwrap()[0].sequence, 3);
    assert_eq!(east.outbox(bucket, 3).await.unwrap().len(), ops.len() - 3);
    assert_eq!(east.waiting().await.unwrap()[&bucket], waiting[&bucket] - 2);
}

fn ops(origin: &str, first: u64, records: Vec<Record>) -> Batch {
    let ops = (first..).zip(records);
    Batch::Ops {
        origin: origin.parse().unwrap(),
        ops: ops
            .map(|(sequence, record)| unitring_protocol::record::Op { sequence, record })
            .collect(),
    }
}

async fn what_is_applied_is_the_same_there(east: &dyn Records, west: &dyn Records) {
    for state_east in east.states().await.unwrap() {
        let bucket = state_east.bucket;
        let batch = Batch::Records {
            records: all(east, bucket).await,
            positions: state_east.positions.clone(),
        };
        assert!(west.apply(bucket, &batch).await.unwrap().changed > 0);
        assert_eq!(state(west, bucket).await, state_east);
        assert_eq!(all(west, bucket).await, all(east, bucket).await);
    }
    let record = id("d", "first");
    assert_eq!(
        west.read(&record).await.unwrap(),
        east.read(&record).await.unwrap()
    );
}

async fn a_repeated_batch_changes_nothing(east: &dyn Records, west: &dyn Records) {
    let bucket = bucket_of(&id("d", "same"));
    let before = state(west, bucket).await;
    let batch = Batch::Ops {
        origin: "east".parse().unwrap(),
        ops: east.outbox(bucket, 0).await.unwrap(),
    };
    assert_eq!(
        west.apply(bucket, &batch).await.unwrap(),
        Applied::default()
    );
    assert_eq!(state(west, bucket).await, before);
}

fn record(key: &str, version: &str, value: Option<&[u8]>) -> Record {
    Record {
        id: id("d", key),
        version: version.parse().unwrap(),
        value: value.map(|value| unitring_protocol::record::Value(value.to_vec())),
    }
}

async fn an_older_version_changes_nothing_and_a_tie_goes_to_the_later_unit(west: &dyn Records) {
    let bucket = bucket_of(&id("d", "tie"));
    let steps = [
        ("9000.3@m", Some(&b"m"[..]), 1),
        ("9000.2@z", Some(b"old"), 0),
        ("8999.9@z", None, 0),
        ("9000.3@a", Some(b"tie lost"), 0),
        // Bytes decide, not a locale: '_' and lower case come after upper case.
        ("9000.3@Z", Some(b"tie lost"), 0),
        ("9000.3@m", Some(b"the same"), 0),
        ("9000.3@n", None, 1),
        ("9000.10@b", Some(b"counter is a number"), 1),
        ("10000.0@b", Some(b"so is ms"), 1),
    ];
    for (version, value, changed) in steps {
        let batch = Batch::Records {
            records: vec![record("tie", version, value)],
            positions: BTreeMap::new(),
        };
        assert_eq!(
            west.apply(bucket, &batch).await.unwrap().changed,
            changed,
            "{version}"
        );
    }
    // The clock followed, so that a write here comes later although its own clock is behind.
    let version = put(west, "tie", b"mine", 50).await;
    assert_eq!(version.to_string(), "10000.1@west");
}

async fn a_gap_is_applied_but_not_claimed(west: &dyn Records) {
    let bucket = bucket_of(&id("d", "gap"));
    let first = ops("north", 1, vec![record("gap", "100.0@north", Some(b"1"))]);
    let third = ops("north", 3, vec![record("gap", "100.2@north", Some(b"3"))]);
    let second = ops("north", 2, vec![record("gap", "100.1@north", Some(b"2"))]);
    for (batch, applied, position) in [
        (
            first,
            Applied {
                changed: 1,
                gaps: 0,
            },
            1,
        ),
        (
            third,
            Applied {
                changed: 1,
                gaps: 1,
            },
            1,
        ),
        (
            second,
            Applied {
                changed: 0,
                gaps: 0,
            },
            2,
        ),
    ] {
        assert_eq!(west.apply(bucket, &batch).await.unwrap(), applied);
        assert_eq!(state(west, bucket).await.positions["north"], position);
    }
    assert_eq!(
        west.read(&id("d", "gap"))
            .await
            .unwrap()
            .unwrap()
            .value
            .unwrap()
            .0,
        b"3"
    );
}

async fn a_claim_moves_positions_and_the_own_sequence(west: &dyn Records) {
    let bucket = bucket_of(&id("d", "gap"));
    let claim = Batch::Records {
        records: Vec::new(),
        positions: BTreeMap::from([("north".parse().unwrap(), 3), ("west".parse().unwrap(), 70)]),
    };
    west.apply(bucket, &claim).await.unwrap();
    let positions = state(west, bucket).await.positions;
    assert_eq!(positions["north"], 3);
    assert_eq!(positions["west"], 70);
    put(west, "gap", b"after", 200_000).await;
    assert_eq!(state(west, bucket).await.positions["west"], 71);
    assert_eq!(west.outbox(bucket, 70).await.unwrap()[0].sequence, 71);
}

async fn a_large_value_and_strange_keys_survive(east: &dyn Records, west: &dyn Records) {
    let large: Vec<u8> = (0..=255).cycle().take(VALUE_BYTES_MAX).collect();
    for (key, value) in [
        ("a/b c/é}{", &large[..]),
        ("empty", b""),
        ("*?[", b"\0\xff\r\n"),
    ] {
        let record = id("d", key);
        east.write(&record, Some(value), 300_000).await.unwrap();
        let read = east.read(&record).await.unwrap().unwrap();
        assert_eq!(read.value.as_ref().unwrap().0, value);
        let bucket = bucket_of(&record);
        let mut after = 0;
        loop {
            let batch = east.outbox(bucket, after).await.unwrap();
            let Some(last) = batch.last() else { break };
            after = last.sequence;
            let batch = Batch::Ops {
                origin: "east".parse().unwrap(),
                ops: batch,
            };
            west.apply(bucket, &batch).await.unwrap();
        }
        assert_eq!(west.read(&record).await.unwrap().unwrap(), read);
    }
}

/// The promises about registry, loads and events, on an empty store.
pub async fn fleet(store: &dyn Fleet) {
    store.check().await.unwrap();
    a_registration_is_created_changed_renewed_and_expires(store).await;
    a_report_is_taken_once_and_adds_its_growth(store).await;
    a_reporter_that_is_silent_is_no_longer_counted(store).await;
    events_are_read_on_from_a_cursor(store).await;
    counters_stay_at_the_top(store).await;
}

fn registered(port: u16, weight: u32, expires_ms: Option<u64>) -> Registered {
    let address = format!("10.0.0.1:{port}");
    Registered {
        id: address.parse().unwrap(),
        address: address.parse().unwrap(),
        weight: weight.try_into().unwrap(),
        expires_ms,
    }
}

async fn a_registration_is_created_changed_renewed_and_expires(store: &dyn Fleet) {
    let service = "orders".parse().unwrap();
    let revision = store.revision().await.unwrap();
    for (instance, done, step) in [
        (registered(1, 1, Some(500)), Registration::Created, 1),
        (registered(1, 1, Some(900)), Registration::Renewed, 1),
        (registered(1, 2, Some(1_000)), Registration::Changed, 2),
        (registered(2, 1, None), Registration::Created, 3),
    ] {
        assert_eq!(
            store.register(&service, &instance, 100).await.unwrap(),
            done
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
        .map(|(_, event)| event.kind)
        .collect();
    use EventKind::{Added, Removed};
    assert_eq!(kinds, [Added, Added, Removed, Removed]);
}

fn report(reporter: &str, sequence: u64, calls: u64, events: &[u64]) -> Report {
    let load = InstanceLoad {
        id: "10.0.0.9:80".parse().unwrap(),
        address: "10.0.0.9:80".to_owned(),
        weight: 1,
        healthy: true,
        calls,
        in_flight: 4,
        updates: 1,
    };
    let event = |&number: &u64| InstanceEvent {
        number,
        at_ms: number,
        kind: EventKind::Ejected,
        instance: load.id.clone(),
        reason: format!("event {number}"),
        ring: "r".to_owned(),
        moved: 0.25,
    };
    Report {
        version: 1,
        reporter: reporter.parse().unwrap(),
        sequence,
        interval_ms: 1_000,
        services: vec![ServiceReport {
            service: "carts".parse().unwrap(),
            ring: RingReport {
                version: "r".to_owned(),
                points: 160,
                shape: RingShape::Fixed {
                    virtual_nodes: 160,
                    max_size: 1_000,
                },
            },
            fallbacks: 0,
            events: events.iter().map(event).collect(),
            instances: vec![load],
        }],
    }
}

async fn a_report_is_taken_once_and_adds_its_growth(store: &dyn Fleet) {
    let service = "carts".parse().unwrap();
    for (report, old, events_through, calls) in [
        (report("e1", 10, 5, &[1, 2]), false, 2, 5),
        (report("e1", 10, 5, &[1, 2]), true, 2, 5),
        (report("e1", 9, 4, &[1]), true, 2, 5),
        (report("e2", 1, 100, &[]), false, 0, 105),
        (report("e1", 11, 8, &[2, 3]), false, 3, 108),
    ] {
        let taken = store
            .take(&report, &report.services[0], 10_000)
            .await
            .unwrap();
        assert_eq!((taken.old, taken.events_through), (old, events_through));
        assert_eq!(
            store.totals(&service).await.unwrap()["10.0.0.9:80"].calls,
            calls
        );
    }
    let loads = store.loads(&service, 10_001).await.unwrap();
    assert_eq!(loads.len(), 2);
    assert!(store.reported().await.unwrap().contains(&service));
}

async fn a_reporter_that_is_silent_is_no_longer_counted(store: &dyn Fleet) {
    let service = "carts".parse().unwrap();
    assert_eq!(store.loads(&service, 14_999).await.unwrap().len(), 2);
    assert_eq!(store.loads(&service, 15_000).await.unwrap().len(), 0);
    // Back in time, its counters still count from where they were.
    let report = report("e1", 12, 9, &[]);
    let taken = store
        .take(&report, &report.services[0], 60_000)
        .await
        .unwrap();
    assert_eq!(taken.growth.values().next().unwrap().calls, 1);
    // Forgotten, together with the counters of its instance.
    store.expire(10_000_000).await.unwrap();
    assert!(store.reported().await.unwrap().is_empty());
    assert!(store.totals(&service).await.unwrap().is_empty());
}

async fn events_are_read_on_from_a_cursor(store: &dyn Fleet) {
    let all = store.events(None, 1_000).await.unwrap();
    assert!(all.is_sorted_by_key(|(cursor, _)| *cursor));
    let (third, _) = all[2];
    assert_eq!(store.events(Some(third), 1_000).await.unwrap(), all[3..]);
    assert_eq!(store.events(Some(third), 2).await.unwrap(), all[3..5]);
    assert_eq!(store.events(None, 2).await.unwrap(), all[all.len() - 2..]);
    let (last, _) = all[all.len() - 1];
    assert_eq!(store.events(Some(last), 10).await.unwrap(), []);
}

async fn counters_stay_at_the_top(store: &dyn Fleet) {
    let service = "carts".parse().unwrap();
    for name in ["big1", "big2", "big3"] {
        let report = report(name, 1, u64::MAX, &[]);
        store
            .take(&report, &report.services[0], 20_000_000)
            .await
            .unwrap();
    }
    let totals = store.totals(&service).await.unwrap();
    let calls = totals["10.0.0.9:80"].calls;
    assert!(calls >= i64::MAX.unsigned_abs(), "{calls}");
    assert_eq!(totals["10.0.0.9:80"].updates, 3);
}
