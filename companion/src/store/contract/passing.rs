//! The contract of a store for sync between units: cursors, conflicts, and collected tombstones.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::digest::EPOCH_MS;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, Record, RecordId};

use super::records::{NOW_MS, all, apply, at, id, ops, outbox, put, record, repair, state};
use crate::replica::digest::bucket_of;
use crate::store::{Applied, Batch, Change, Condition, Outcome, Store, StoreError, Waiting};

fn unit(name: &str) -> UnitId {
    name.parse().unwrap()
}

pub async fn ops_leave_once_every_member_has_them(mine: &dyn Store) {
    let bucket = bucket_of(&id("d", "passed"));
    for value in [b"1", b"2", b"3"] {
        put(mine, "passed", value, NOW_MS).await;
    }
    assert!(mine.cursors().await.unwrap().is_empty());
    let members = [unit("a"), unit("b")];
    let incarnation = outbox(mine, bucket, 0).await.incarnation;
    let position = |sequence: u64| Position {
        incarnation,
        sequence,
    };
    let confirm = async |name: &str, through: u64, members: &[UnitId]| {
        let cursors = [(bucket, position(through))];
        mine.confirm(&unit(name), &cursors, members).await.unwrap()
    };
    assert_eq!(confirm("a", 2, &members).await, 0, "b has none");
    assert_eq!(confirm("b", 1, &members).await, 1);
    assert_eq!(outbox(mine, bucket, 0).await.ops[0].sequence, 2);
    assert_eq!(confirm("b", 3, &members).await, 1);
    assert_eq!(
        confirm("a", 1, &members).await,
        0,
        "a cursor never goes back"
    );
    let cursors = mine.cursors().await.unwrap();
    let of = |name: &str| cursors[&unit(name)][&bucket];
    assert_eq!((of("a"), of("b")), (position(2), position(3)));
    // From before the store was emptied, when other ops had these numbers.
    let before = Position {
        incarnation: incarnation - 1,
        sequence: 3,
    };
    let old = [(bucket, before)];
    let removed = mine.confirm(&unit("a"), &old, &members[..1]).await;
    assert_eq!(removed.unwrap(), 0);
    let all = mine.outboxes(&[(bucket, before)]).await.unwrap();
    assert_eq!(all[0].ops[0].sequence, 3);
    // A unit that is no member any more holds nothing back.
    assert_eq!(confirm("b", 3, &members[1..]).await, 1);
    assert_eq!(outbox(mine, bucket, 0).await.ops, []);
    assert_eq!(mine.waiting().await.unwrap().get(&bucket), None);
}

pub async fn an_outbox_is_shortened_from_its_beginning(mine: &dyn Store) {
    let bucket = bucket_of(&id("d", "shortened"));
    for value in [b"1", b"2", b"3"] {
        put(mine, "shortened", value, NOW_MS).await;
    }
    assert_eq!(mine.shorten(&[(bucket, 1)]).await.unwrap(), 2);
    let left = outbox(mine, bucket, 0).await.ops;
    assert_eq!((left.len(), left[0].sequence), (1, 3));
    assert_eq!(mine.shorten(&[(bucket, 1)]).await.unwrap(), 0);
}

/// An op that replaced this version where it was made.
fn op(sequence: u64, record: Record, over: Option<&str>) -> Batch {
    Batch::Ops {
        origin: record.version.unit.clone(),
        incarnation: 50,
        ops: vec![Op {
            sequence,
            over: over.map(|over| over.parse().unwrap()),
            record,
            trace: None,
        }],
        passed: BTreeSet::new(),
    }
}

pub async fn changes_that_did_not_know_of_each_other_are_told(mine: &dyn Store) {
    let bucket = bucket_of(&id("d", "both"));
    let theirs = |version: &str, value: &[u8]| record("both", version, Some(value));
    assert_eq!(mine.conflicts(10).await.unwrap(), []);
    let first = put(mine, "both", b"mine", NOW_MS + 1).await.to_string();
    // It replaced ours, so it knew of it.
    let knew = op(1, theirs("3000.0@a", b"knew"), Some(&first));
    assert_eq!(apply(mine, bucket, knew).await.conflicts, 0);
    let second = put(mine, "both", b"mine again", 4_000).await.to_string();
    // Earlier than ours, and ours did not know of it.
    let lost = op(1, theirs("3500.0@b", b"lost"), Some("3000.0@a"));
    let applied = apply(mine, bucket, lost.clone()).await;
    assert_eq!((applied.changed, applied.conflicts), (0, 1));
    assert_eq!(
        apply(mine, bucket, lost).await.conflicts,
        0,
        "once is enough"
    );
    // Later than ours, and it did not know of ours.
    let won = op(2, theirs("5000.0@a", b"won"), Some("3000.0@a"));
    let applied = apply(mine, bucket, won).await;
    assert_eq!((applied.changed, applied.conflicts), (1, 1));

    let conflicts = mine.conflicts(10).await.unwrap();
    let told = |value: &[u8], lost: &str, kept: &str| {
        let found = conflicts
            .iter()
            .find(|conflict| conflict.lost == lost)
            .unwrap();
        assert_eq!(found.kept, kept);
        assert_eq!(found.record, id("d", "both"));
        assert_eq!(found.value.as_ref().unwrap().0, value);
    };
    told(b"lost", "3500.0@b", &second);
    told(b"mine again", &second, "5000.0@a");
    assert_eq!(conflicts.len(), 2);
    assert_eq!(mine.conflicts(1).await.unwrap().len(), 1);
}

pub async fn what_is_forgotten_does_not_come_back(mine: &dyn Store) {
    let bucket = bucket_of(&id("d", "deleted"));
    let old = |version: &str| record("deleted", version, Some(b"old"));
    apply(mine, bucket, ops("a", 50, 1, vec![old("1000.0@a")])).await;
    mine.write(&id("d", "deleted"), None, 2_000).await.unwrap();
    let held = async || {
        let states = mine.states(NOW_MS).await.unwrap();
        states
            .into_iter()
            .find(|held| held.state.bucket == bucket)
            .unwrap()
    };
    let before = held().await;
    assert_eq!(before.gone_ms, Some(2_000));
    let fence = BTreeMap::from([(unit("a"), at(1)), (unit("b"), at(7))]);
    assert_eq!(mine.collect(bucket, 1_999, &fence).await.unwrap(), 0);
    assert_eq!(mine.collect(bucket, 2_000, &fence).await.unwrap(), 1);
    let after = held().await;
    assert_eq!(
        (after.gone_ms, after.state),
        (None, before.state),
        "it was in no digest"
    );
    let is_gone = async || mine.read(&id("d", "deleted")).await.unwrap().is_none();
    assert!(is_gone().await);

    // An op that came before, once more.
    let again = ops("a", 50, 1, vec![old("1000.0@a")]);
    assert_eq!(apply(mine, bucket, again).await.changed, 0);
    assert!(is_gone().await);
    // A repair from a unit that had not yet the ops that all needed before the tombstone was collected.
    let behind = repair(vec![old("1000.0@a")], &[("a", at(1)), ("b", at(6))], true);
    let applied = apply(mine, bucket, behind).await;
    assert_eq!((applied.changed, applied.refused), (0, 1));
    assert!(is_gone().await);
    // A unit that had them may send a new record.
    let new = record("deleted", "3000.0@b", Some(b"new"));
    let ahead = repair(vec![new], &[("a", at(1)), ("b", at(7))], true);
    assert_eq!(apply(mine, bucket, ahead).await.changed, 1);
    assert!(!is_gone().await);
    assert_eq!(all(mine, bucket).await.len(), 1);
}

pub async fn what_expires_leaves_the_digest_with_its_epoch(mine: &dyn Store) {
    let short = id("d", "deleted");
    let bucket = bucket_of(&short);
    let now_ms = crate::clock::now_ms();
    let before = state(mine, bucket).await.digest;
    let expires_ms = now_ms + EPOCH_MS;
    let change = Change::Put {
        value: b"short",
        expires_ms: Some(expires_ms),
    };
    let written = mine.write_if(&short, change, &Condition::Any, now_ms).await;
    assert!(matches!(written.unwrap(), Outcome::Done(_)));
    let digest = async |now_ms: u64| {
        let states = mine.states(now_ms).await.unwrap();
        let held = states.into_iter().find(|held| held.state.bucket == bucket);
        held.unwrap().state.digest
    };
    let with = digest(now_ms - EPOCH_MS).await;
    assert_ne!(with, digest(expires_ms).await);
    assert_ne!(
        digest(expires_ms).await,
        before,
        "the record of before is gone"
    );
    // The record that takes its place removes its share of the digest, too.
    let now_ms = now_ms + 1;
    mine.write(&short, Some(b"stays"), now_ms).await.unwrap();
    assert_eq!(digest(0).await, digest(u64::MAX >> 12).await);
}

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// What `north` has in an outbox goes to the other unit.
async fn deliver(
    north: &dyn Store,
    other: &dyn Store,
    bucket: u8,
    now_ms: u64,
) -> (Applied, Waiting) {
    let asked = [(bucket, Position::default())];
    let waiting = north.outboxes(&asked).await.unwrap().remove(0);
    let batch = Batch::Ops {
        origin: unit("north"),
        incarnation: waiting.incarnation,
        ops: waiting.ops.clone(),
        passed: waiting.passed.clone(),
    };
    let applied = other.apply(&[(bucket, batch)], now_ms).await.unwrap();
    (applied[0], waiting)
}

/// The version of now that `unitring unit repair --clocks` gives a record.
async fn again(store: &dyn Store, record: &RecordId, now_ms: u64) {
    let change = store.write_if(record, Change::Again, &Condition::Any, now_ms);
    assert!(matches!(change.await.unwrap(), Outcome::Done(_)));
}

pub async fn a_store_begun_in_the_future_is_led_back(north: &dyn Store, other: &dyn Store) {
    let now_ms = crate::clock::now_ms();
    let ahead_ms = now_ms + YEAR_MS;
    let record = id("future", "begun");
    let bucket = bucket_of(&record);
    north.write(&record, Some(b"v"), ahead_ms).await.unwrap();
    let (applied, waiting) = deliver(north, other, bucket, now_ms).await;
    assert_eq!((applied.changed, applied.ahead), (0, 1));
    assert_eq!(waiting.incarnation, ahead_ms);
    // The broker has it, so it is gone from the outbox.
    let cursor = Position {
        incarnation: waiting.incarnation,
        sequence: waiting.last,
    };
    let members = [unit("logged")];
    let cursors = [(bucket, cursor)];
    let confirmed = north.confirm(&members[0], &cursors, &members).await;
    assert_eq!(confirmed.unwrap(), 1);
    let refused = north.write(&record, Some(b"w"), now_ms).await;
    assert!(matches!(refused, Err(StoreError::ClockAhead(_))));

    assert_eq!(north.reset_clocks(now_ms).await.unwrap(), [bucket]);
    assert!(north.reset_clocks(now_ms).await.unwrap().is_empty());
    again(north, &record, now_ms).await;
    let (applied, waiting) = deliver(north, other, bucket, now_ms).await;
    assert_eq!((applied.changed, applied.gaps, applied.ahead), (1, 0, 0));
    let begun = (waiting.incarnation, waiting.last);
    assert_eq!(begun, (now_ms, 1), "an incarnation of now begins");
    assert_eq!(all(north, bucket).await, all(other, bucket).await);
    let state = async |store: &dyn Store| {
        let states = store.states(now_ms).await.unwrap();
        let held = states.into_iter().find(|held| held.state.bucket == bucket);
        held.unwrap().state
    };
    assert_eq!(state(north).await, state(other).await);
}

pub async fn a_unit_that_took_changes_of_the_future_is_led_back_too(
    north: &dyn Store,
    other: &dyn Store,
) {
    let now_ms = crate::clock::now_ms();
    let ahead_ms = now_ms + YEAR_MS;
    let record = id("future", "both");
    let bucket = bucket_of(&record);
    let mut more = (0..).map(|number| id("future", &format!("both/{number}")));
    let mut in_bucket = || more.find(|id| bucket_of(id) == bucket).unwrap();
    let (deleted, new) = (in_bucket(), in_bucket());
    // Both clocks were wrong.
    north.write(&record, Some(b"v"), ahead_ms).await.unwrap();
    assert_eq!(deliver(north, other, bucket, ahead_ms).await.0.changed, 1);
    other.write(&deleted, Some(b"v"), ahead_ms).await.unwrap();
    other.write(&deleted, None, ahead_ms).await.unwrap();
    let last = Position {
        incarnation: ahead_ms,
        sequence: 1,
    };
    let fence = BTreeMap::from([(unit("north"), last)]);
    let collected = other.collect(bucket, ahead_ms + 9, &fence).await;
    assert_eq!(collected.unwrap(), 1);
    for store in [north, other] {
        assert!(store.reset_clocks(now_ms).await.unwrap().contains(&bucket));
        assert!(store.reset_clocks(now_ms).await.unwrap().is_empty());
    }
    again(north, &record, now_ms).await;
    again(other, &record, now_ms).await;
    // What north writes from now on has a place in the other unit.
    let later = now_ms + 10;
    north.write(&record, Some(b"now"), later).await.unwrap();
    assert!(deliver(north, other, bucket, later).await.0.changed >= 1);
    let read = other.read(&record).await.unwrap().unwrap();
    assert_eq!(read.value.unwrap().0, b"now");
    let unknown = Record {
        id: new,
        ..north.read(&record).await.unwrap().unwrap()
    };
    let repair = repair(vec![unknown], &[], false);
    let applied = other.apply(&[(bucket, repair)], later).await.unwrap()[0];
    let applied = (applied.changed, applied.refused);
    assert_eq!(applied, (1, 0), "no fence of the future is left");
}
