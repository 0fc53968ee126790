//! The contract of a store for records.

use std::collections::BTreeSet;

use unitring_protocol::digest::BucketState;
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId, VALUE_BYTES_MAX, Version};

use crate::replica::digest::{bucket_of, share};
use crate::replica::{Mark, Part};
use crate::store::{Applied, BATCH_MAX, Batch, Condition, Outcome, Page, Store, Waiting};

/// When a batch arrives.
pub(super) const NOW_MS: u64 = 1_000;

pub fn id(dataset: &str, key: &str) -> RecordId {
    RecordId {
        dataset: dataset.parse().unwrap(),
        key: key.parse().unwrap(),
    }
}

pub async fn a_write_is_made_only_if_what_is_there_is_what_must_be(store: &dyn Store) {
    let record = id("d", "conditions");
    let write = async |value: Option<&str>, condition: Condition| {
        let change = value.map(str::as_bytes).into();
        let outcome = store.write_if(&record, change, &condition, 40_000).await;
        outcome.unwrap()
    };
    let version = |outcome: Outcome| match outcome {
        Outcome::Done(written) => written.version,
        other => panic!("not made: {other:?}"),
    };
    assert_eq!(
        write(Some("a"), Condition::Present).await,
        Outcome::Refused(None)
    );
    let first = version(write(Some("a"), Condition::Absent).await);
    let taken = Outcome::Refused(Some(first.clone()));
    assert_eq!(write(Some("b"), Condition::Absent).await, taken);
    let same = Condition::Version(first.clone());
    let second = version(write(Some("b"), same.clone()).await);
    let newer = Outcome::Refused(Some(second.clone()));
    assert_eq!(write(Some("c"), same.clone()).await, newer);
    assert_eq!(write(None, same.clone()).await, newer);
    let before = state(store, bucket_of(&record)).await;
    assert_eq!(write(None, same).await, newer);
    assert_eq!(
        state(store, bucket_of(&record)).await,
        before,
        "nothing changed"
    );
    version(write(None, Condition::Version(second.clone())).await);
    let gone = Condition::Version(second);
    assert_eq!(write(Some("d"), gone).await, Outcome::Refused(None));
    assert_eq!(write(None, Condition::Any).await, Outcome::Nothing);
    version(write(Some("e"), Condition::Absent).await);
}

pub(super) async fn put(store: &dyn Store, key: &str, value: &[u8], now_ms: u64) -> Version {
    let written = store
        .write(&id("d", key), Some(value), now_ms)
        .await
        .unwrap();
    written.unwrap().version
}

pub(super) async fn state(store: &dyn Store, bucket: u8) -> BucketState {
    let states = store.states(NOW_MS).await.unwrap();
    let found = states.into_iter().find(|held| held.state.bucket == bucket);
    found.unwrap_or_default().state
}

pub(super) async fn apply(store: &dyn Store, bucket: u8, batch: Batch) -> Applied {
    let applied = store.apply(&[(bucket, batch)], NOW_MS).await.unwrap();
    assert_eq!(applied.len(), 1);
    applied[0]
}

/// The first ops of an outbox after a sequence of its incarnation.
pub(super) async fn outbox(store: &dyn Store, bucket: u8, sequence: u64) -> Waiting {
    let all = store.outboxes(&[(bucket, Position::default())]).await;
    let incarnation = all.unwrap()[0].incarnation;
    let after = Position {
        incarnation,
        sequence,
    };
    let mut read = store.outboxes(&[(bucket, after)]).await.unwrap();
    assert_eq!(read.len(), 1);
    read.remove(0)
}

/// Records, as of a sender that had these positions; with an end they are claimed.
pub(super) fn repair(records: Vec<Record>, positions: &[(&str, Position)], is_last: bool) -> Batch {
    let position = |(unit, position): &(&str, Position)| (unit.parse().unwrap(), *position);
    Batch::Records {
        records,
        positions: positions.iter().map(position).collect(),
        clock: Clock::default(),
        is_last,
    }
}

pub(super) async fn all(store: &dyn Store, bucket: u8) -> Vec<Record> {
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

pub async fn a_write_is_read_back_with_its_version(east: &dyn Store) {
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

pub async fn versions_grow_even_if_the_clock_does_not(east: &dyn Store) {
    let first = put(east, "same", b"1", 5_000).await;
    let second = put(east, "same", b"2", 5_000).await;
    let third = put(east, "same", b"3", 4_000).await;
    assert_eq!(first.to_string(), "5000.0@east");
    assert_eq!(second.to_string(), "5000.1@east");
    assert_eq!(third.to_string(), "5000.2@east");
}

pub async fn a_deleted_record_is_a_tombstone_and_cannot_be_deleted_again(east: &dyn Store) {
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

pub async fn the_digest_is_the_xor_of_all_shares(east: &dyn Store) {
    for held in east.states(NOW_MS).await.unwrap() {
        let records = all(east, held.state.bucket).await;
        let counts = |record: &&Record| Mark::of(record).part() == Some(Part::Lasting);
        let expected = records.iter().filter(counts).fold(0, |digest, record| {
            digest ^ share(&record.id.to_string(), &Mark::of(record).to_string()).0
        });
        assert_eq!(held.state.digest.0, expected, "{held:?}");
    }
}

pub async fn ops_wait_in_order(east: &dyn Store) {
    let bucket = bucket_of(&id("d", "same"));
    let waiting = east.waiting().await.unwrap()[&bucket].ops;
    let read = outbox(east, bucket, 0).await;
    let sequences: Vec<u64> = read.ops.iter().map(|op| op.sequence).collect();
    assert_eq!(sequences, (1..=waiting).collect::<Vec<_>>());
    let own = state(east, bucket).await.positions["east"];
    assert_eq!((own.incarnation, own.sequence), (read.incarnation, waiting));
    let rest = outbox(east, bucket, 2).await.ops;
    assert_eq!(rest.first(), read.ops.get(2));
    // Each op has the version that it replaced.
    let first = &read.ops[0].record;
    assert_eq!(read.ops[0].over, None);
    assert_eq!(read.ops[1].over.as_ref(), Some(&first.version));
}

pub(super) fn ops(origin: &str, incarnation: u64, first: u64, records: Vec<Record>) -> Batch {
    let ops = (first..).zip(records);
    Batch::Ops {
        origin: origin.parse().unwrap(),
        incarnation,
        ops: ops
            .map(|(sequence, record)| Op {
                sequence,
                record,
                over: None,
                trace: None,
            })
            .collect(),
        passed: BTreeSet::new(),
    }
}

pub async fn what_is_applied_is_the_same_there(east: &dyn Store, west: &dyn Store) {
    for held in east.states(NOW_MS).await.unwrap() {
        let bucket = held.state.bucket;
        let batch = Batch::Records {
            records: all(east, bucket).await,
            positions: held.state.positions.clone(),
            clock: held.clock,
            is_last: true,
        };
        assert!(apply(west, bucket, batch).await.changed > 0);
        assert_eq!(state(west, bucket).await, held.state);
        assert_eq!(all(west, bucket).await, all(east, bucket).await);
    }
    let record = id("d", "first");
    assert_eq!(
        west.read(&record).await.unwrap(),
        east.read(&record).await.unwrap()
    );
}

pub async fn a_repeated_batch_changes_nothing(east: &dyn Store, west: &dyn Store) {
    let bucket = bucket_of(&id("d", "same"));
    let before = state(west, bucket).await;
    let read = outbox(east, bucket, 0).await;
    let batch = Batch::Ops {
        origin: "east".parse().unwrap(),
        incarnation: read.incarnation,
        ops: read.ops,
        passed: read.passed,
    };
    let parts = [(bucket, batch.clone()), (bucket, batch)];
    let applied = west.apply(&parts, NOW_MS).await.unwrap();
    assert_eq!(applied, [Applied::default(); 2]);
    assert_eq!(state(west, bucket).await, before);
}

pub(super) fn record(key: &str, version: &str, value: Option<&[u8]>) -> Record {
    Record {
        id: id("d", key),
        version: version.parse().unwrap(),
        value: value.map(|value| unitring_protocol::record::Value(value.to_vec())),
        expires_ms: None,
    }
}

pub async fn an_older_version_changes_nothing_and_a_tie_goes_to_the_later_unit(west: &dyn Store) {
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
        let batch = repair(vec![record("tie", version, value)], &[], false);
        let applied = apply(west, bucket, batch).await;
        assert_eq!(applied.changed, changed, "{version}");
    }
    // The clock followed, so that a write here comes later although its own clock is behind.
    let version = put(west, "tie", b"mine", 50).await;
    assert_eq!(version.to_string(), "10000.1@west");
}

/// A position of the first incarnation.
pub(super) fn at(sequence: u64) -> Position {
    Position {
        incarnation: 50,
        sequence,
    }
}

pub async fn a_gap_is_applied_but_not_claimed(west: &dyn Store) {
    let bucket = bucket_of(&id("d", "gap"));
    let of = |sequence: u64, value: &[u8]| {
        let version = format!("100.{sequence}@north");
        ops(
            "north",
            50,
            sequence,
            vec![record("gap", &version, Some(value))],
        )
    };
    for (batch, changed, gaps, position) in [
        (of(1, b"1"), 1, 0, 1),
        (of(3, b"3"), 1, 1, 1),
        (of(2, b"2"), 0, 0, 2),
    ] {
        let expected = Applied {
            changed,
            gaps,
            ..Applied::default()
        };
        assert_eq!(apply(west, bucket, batch).await, expected);
        assert_eq!(state(west, bucket).await.positions["north"], at(position));
    }
    let read = west.read(&id("d", "gap")).await.unwrap().unwrap();
    assert_eq!(read.value.unwrap().0, b"3");
}

pub async fn a_claim_moves_positions_and_numbers_are_not_used_again(west: &dyn Store) {
    let bucket = bucket_of(&id("d", "gap"));
    // Ours is of an incarnation that this store never saw: it was emptied since.
    let own = Position {
        incarnation: 55_000,
        sequence: 70,
    };
    let claims = [("north", at(3)), ("west", own)];
    apply(west, bucket, repair(Vec::new(), &claims, false)).await;
    assert_eq!(
        state(west, bucket).await.positions["north"],
        at(2),
        "no end, no claim"
    );
    apply(west, bucket, repair(Vec::new(), &claims, true)).await;
    let positions = state(west, bucket).await.positions;
    assert_eq!((positions["north"], positions["west"]), (at(3), own));
    put(west, "gap", b"after", 50_000).await;
    let now = state(west, bucket).await.positions["west"];
    assert_eq!((now.incarnation, now.sequence), (own.incarnation + 1, 1));
    let waiting = outbox(west, bucket, 0).await;
    assert_eq!(
        (waiting.incarnation, waiting.ops.len()),
        (now.incarnation, 1)
    );
    // Another unit has more of it still; what waits here keeps its order.
    let own = Position {
        incarnation: now.incarnation + 5,
        sequence: 3,
    };
    apply(west, bucket, repair(Vec::new(), &[("west", own)], true)).await;
    assert_eq!(state(west, bucket).await.positions["west"], own);
    put(west, "gap", b"again", 50_001).await;
    let now = state(west, bucket).await.positions["west"];
    assert_eq!((now.incarnation, now.sequence), (own.incarnation + 1, 2));
    let waiting = outbox(west, bucket, 0).await;
    assert_eq!(
        (waiting.incarnation, waiting.ops.len()),
        (now.incarnation, 2)
    );
}

pub async fn a_later_incarnation_begins_at_one(west: &dyn Store) {
    let bucket = bucket_of(&id("d", "again"));
    let of = |incarnation: u64, sequence: u64, key: &str| {
        let version = format!("{incarnation}.{sequence}@south");
        ops(
            "south",
            incarnation,
            sequence,
            vec![record(key, &version, Some(b"x"))],
        )
    };
    // Any key will do: the bucket is that of the first.
    for (batch, gaps, position) in [
        (of(50, 1, "again"), 0, "50.1"),
        (of(90, 2, "again"), 1, "50.1"),
        (of(90, 1, "again"), 0, "90.1"),
        (of(90, 2, "again"), 0, "90.2"),
        (of(50, 2, "again"), 0, "90.2"),
    ] {
        assert_eq!(apply(west, bucket, batch).await.gaps, gaps, "{position}");
        let now = state(west, bucket).await.positions["south"];
        assert_eq!(now.to_string(), position);
    }
}

pub async fn a_large_value_and_strange_keys_survive(east: &dyn Store, west: &dyn Store) {
    let large: Vec<u8> = (0..=255).cycle().take(VALUE_BYTES_MAX).collect();
    for (key, value) in [
        ("a/b c/é}{", &large[..]),
        ("empty", b""),
        ("*?[", b"\0\xff\r\n"),
    ] {
        let record = id("d", key);
        east.write(&record, Some(value), 30_000).await.unwrap();
        let read = east.read(&record).await.unwrap().unwrap();
        assert_eq!(read.value.as_ref().unwrap().0, value);
        let bucket = bucket_of(&record);
        let mut after = 0;
        loop {
            let read = outbox(east, bucket, after).await;
            let Some(last) = read.ops.last() else { break };
            after = last.sequence;
            let batch = Batch::Ops {
                origin: "east".parse().unwrap(),
                incarnation: read.incarnation,
                ops: read.ops,
                passed: read.passed,
            };
            apply(west, bucket, batch).await;
        }
        assert_eq!(west.read(&record).await.unwrap().unwrap(), read);
    }
}
