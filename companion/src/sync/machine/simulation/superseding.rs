//! A reader that gets the ops that are left once superseded ones are skipped ends as one that gets all of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use unitring_protocol::envelope::Part;
use unitring_protocol::record::{Position, RecordId};

use super::super::outgoing::superseded::skip;
use super::broken::Broken;
use super::store::{Store, id};
use super::world::unit;
use crate::store::Batch;

/// Something that happens before the sender's ops are read: 0 the sender writes, 1 and 2 another unit does; 3 and 4 the
/// sender gets what they wrote, 5 the reader gets what the third wrote.
#[derive(Debug, Clone)]
struct Event {
    kind: u8,
    key: u8,
    deletes: bool,
    expires: bool,
    after_ms: u64,
}

fn event() -> impl Strategy<Value = Event> {
    let kinds = prop_oneof![6 => Just(0_u8), 3 => 1..3_u8, 3 => 3..6_u8];
    let rest = (
        0..3_u8,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        0..3_u64,
    );
    (kinds, rest).prop_map(|(kind, (key, deletes, expires, after_ms))| Event {
        kind,
        key,
        deletes,
        expires,
        after_ms,
    })
}

/// All ops in the outboxes of a store, bucket by bucket.
fn all(store: &Store) -> Vec<Part> {
    let numbers: Vec<u8> = store.buckets.keys().copied().collect();
    let parts = numbers.into_iter().map(|bucket| {
        let mut part = Part {
            bucket,
            incarnation: 0,
            skipped: false,
            ops: Vec::new(),
            passed: BTreeSet::new(),
        };
        let mut after = Position::default();
        loop {
            let waiting = store.outboxes(&[(bucket, after)]).remove(0);
            part.incarnation = waiting.incarnation;
            part.ops.extend(waiting.ops);
            after.incarnation = waiting.incarnation;
            after.sequence = part.ops.last().map_or(0, |op| op.sequence);
            if !waiting.more {
                return part;
            }
        }
    });
    parts.collect()
}

fn apply(reader: &mut Store, from: usize, parts: &[Part], now_ms: u64) {
    for part in parts {
        let batch = Batch::Ops {
            origin: unit(from),
            incarnation: part.incarnation,
            ops: part.ops.clone(),
            passed: part.passed.clone(),
        };
        reader.apply(part.bucket, &batch, now_ms);
    }
}

/// The records that a store says were in conflict, and the changes of other units than the sender that lost.
fn conflicts(store: &Store) -> (BTreeSet<RecordId>, BTreeSet<String>) {
    let all = store.buckets.values().flat_map(|bucket| &bucket.conflicts);
    let records = all.clone().map(|it| it.record.clone()).collect();
    let lost = all.map(|it| it.lost.clone());
    let of_others = lost.filter(|lost| !lost.contains("@u0"));
    (records, of_others.collect())
}

/// The sender, the reader, and the time, after these events.
fn histories(events: &[Event]) -> (Store, Store, u64) {
    let mut stores: Vec<Store> = (0..3)
        .map(|at| Store::new(unit(at), Broken::Nothing))
        .collect();
    let mut now_ms = 1_000_000;
    for event in events {
        now_ms += event.after_ms;
        match event.kind {
            writer @ 0..3 => {
                let value = (!event.deletes).then(|| now_ms.to_string().into_bytes());
                let expires_ms = event.expires.then_some(now_ms + 100_000);
                let key = id("d", &format!("k{}", event.key));
                stores[usize::from(writer)].write(&key, value, expires_ms, now_ms);
            }
            kind => {
                let (from, to) = [(1, 0), (2, 0), (2, 1)][usize::from(kind - 3)];
                let parts = all(&stores[from]);
                apply(&mut stores[to], from, &parts, now_ms);
            }
        }
    }
    let reader = stores.swap_remove(1);
    (stores.swap_remove(0), reader, now_ms)
}

/// Everything of a store that a skipped op must not change.
fn state(store: &Store, now_ms: u64) -> impl PartialEq + std::fmt::Debug + use<> {
    let buckets = store.buckets.iter();
    let records: BTreeMap<u8, _> = buckets
        .map(|(number, bucket)| (*number, (bucket.records.clone(), bucket.gone.clone())))
        .collect();
    (records, store.states(now_ms))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_skipped_changes_neither_records_nor_positions_nor_what_is_told_as_a_conflict(
        events in prop::collection::vec(event(), 0..40),
        known in 0..12_usize,
        again in any::<bool>(),
    ) {
        let (sender, mut reader, now_ms) = histories(&events);
        let mut parts = all(&sender);
        // The reader has the first ops already; some of them come again with the others.
        let mut first = parts.clone();
        first.iter_mut().for_each(|part| part.ops.truncate(known));
        apply(&mut reader, 0, &first, now_ms);
        if !again {
            parts.iter_mut().for_each(|part| drop(part.ops.drain(..known.min(part.ops.len()))));
        }
        let mut skipping = reader.clone();
        apply(&mut reader, 0, &parts, now_ms);
        let sent: usize = parts.iter().map(|part| part.ops.len()).sum();
        let skipped: usize = parts.iter_mut().map(skip).sum();
        prop_assert_eq!(sent - skipped, parts.iter().map(|part| part.ops.len()).sum::<usize>());
        apply(&mut skipping, 0, &parts, now_ms);
        prop_assert_eq!(state(&reader, now_ms), state(&skipping, now_ms));
        if !again {
            prop_assert_eq!(conflicts(&reader), conflicts(&skipping));
        }
    }
}

#[test]
fn of_many_writes_of_one_record_the_first_and_the_last_are_sent() {
    let mut store = Store::new(unit(0), Broken::Nothing);
    for now_ms in 1..=50 {
        store.write(&id("d", "k0"), Some(vec![1]), None, now_ms);
    }
    let mut parts = all(&store);
    assert_eq!(skip(&mut parts[0]), 48);
    let sequences: Vec<u64> = parts[0].ops.iter().map(|op| op.sequence).collect();
    assert_eq!(sequences, [1, 50]);
    assert_eq!(
        parts[0].ops[1].over,
        Some(parts[0].ops[0].record.version.clone())
    );
    assert_eq!(parts[0].passed.len(), 48);
    // Once more, from behind the first, which the reader has.
    let mut parts = all(&store);
    parts[0].ops.remove(0);
    assert_eq!(skip(&mut parts[0]), 48);
    assert_eq!(parts[0].ops.len(), 1);
}
