//! The contract of a store for sync between units: cursors, conflicts, and collected tombstones.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::digest::EPOCH_MS;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, Record};

use super::records::{NOW_MS, all, apply, at, id, ops, outbox, put, record, repair, state};
use crate::replica::digest::bucket_of;
use crate::store::{Batch, Change, Condition, Outcome, Store};

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
