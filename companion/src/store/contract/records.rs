//! What a store promises about records.

use std::collections::BTreeMap;

use unitring_protocol::digest::BucketState;
use unitring_protocol::record::{Record, RecordId, VALUE_BYTES_MAX, Version};

use crate::store::digest::{Mark, bucket_of, share};
use crate::store::{Applied, BATCH_MAX, Batch, Condition, Outcome, Page, Records};

/// When what is applied arrives.
const NOW_MS: u64 = 1_000;

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
    a_write_is_made_only_if_what_is_there_is_what_must_be(east).await;
    the_digest_is_the_xor_of_all_shares(east).await;
    ops_wait_in_order_until_they_are_trimmed(east).await;
    what_is_applied_is_the_same_there(east, west).await;
    a_repeated_batch_changes_nothing(east, west).await;
    an_older_version_changes_nothing_and_a_tie_goes_to_the_later_unit(west).await;
    a_gap_is_applied_but_not_claimed(west).await;
    a_claim_moves_positions_and_the_own_sequence(west).await;
    a_large_value_and_strange_keys_survive(east, west).await;
}

async fn a_write_is_made_only_if_what_is_there_is_what_must_be(store: &dyn Records) {
    let record = id("d", "conditions");
    let write = async |value: Option<&str>, condition: Condition| {
        let change = value.map(str::as_bytes).into();
        let outcome = store.write_if(&record, change, &condition, 400_000).await;
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
            digest ^ share(&record.id.to_string(), &Mark::of(record).to_string()).0
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
        assert!(west.apply(bucket, &batch, NOW_MS).await.unwrap().changed > 0);
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
        west.apply(bucket, &batch, NOW_MS).await.unwrap(),
        Applied::default()
    );
    assert_eq!(state(west, bucket).await, before);
}

fn record(key: &str, version: &str, value: Option<&[u8]>) -> Record {
    Record {
        id: id("d", key),
        version: version.parse().unwrap(),
        value: value.map(|value| unitring_protocol::record::Value(value.to_vec())),
        expires_ms: None,
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
            west.apply(bucket, &batch, NOW_MS).await.unwrap().changed,
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
        assert_eq!(west.apply(bucket, &batch, NOW_MS).await.unwrap(), applied);
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
    west.apply(bucket, &claim, NOW_MS).await.unwrap();
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
            west.apply(bucket, &batch, NOW_MS).await.unwrap();
        }
        assert_eq!(west.read(&record).await.unwrap().unwrap(), read);
    }
}
