//! The contract of a store for expiry, listings and the log of changes.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::record::{RecordId, Version};

use super::records::id;
use crate::moment::Moment;
use crate::replica::digest::bucket_of;
use crate::store::{Batch, CHANGES_MAX, Change, Condition, Outcome, Page, Store};

async fn put(store: &dyn Store, id: &RecordId, expires_ms: Option<u64>, now_ms: u64) -> Version {
    let change = Change::Put {
        value: b"v",
        expires_ms,
    };
    match store.write_if(id, change, &Condition::Any, now_ms).await {
        Ok(Outcome::Done(written)) => written.version,
        other => panic!("{id}: {other:?}"),
    }
}

async fn listed(store: &dyn Store, dataset: &str, prefix: &str, now_ms: u64) -> Vec<String> {
    let dataset = dataset.parse().unwrap();
    let mut names = Vec::new();
    for bucket in 0..=u8::MAX {
        let mut from = Some(String::new());
        while let Some(place) = from {
            let of = (&dataset, prefix);
            let (records, more) = store.list(bucket, of, &place, 3, now_ms).await.unwrap();
            assert!(records.iter().all(|record| bucket_of(&record.id) == bucket));
            names.extend(records.iter().map(|record| record.id.key.to_string()));
            from = more;
        }
    }
    names.sort();
    names
}

pub async fn a_listing_names_what_is_live_once_and_nothing_else<S: Store>(store: &S) {
    let mut expected = Vec::new();
    for number in 0..50 {
        put(store, &id("list", &format!("a*/{number:02}")), None, 1_000).await;
        put(store, &id("list", &format!("ab/{number:02}")), None, 1_000).await;
        put(
            store,
            &id("list.other", &format!("a*/{number:02}")),
            None,
            1_000,
        )
        .await;
        expected.push(format!("a*/{number:02}"));
    }
    store
        .write(&id("list", "a*/07"), None, 2_000)
        .await
        .unwrap();
    expected.remove(7);
    assert_eq!(listed(store, "list", "a*", 3_000).await, expected);
    assert_eq!(listed(store, "list", "", 3_000).await.len(), 99);
    assert_eq!(listed(store, "lis", "", 3_000).await, Vec::<String>::new());
}

pub async fn changes_are_numbered_and_the_oldest_are_forgotten<S: Store>(store: &S) {
    let record = id("log", "one");
    let bucket = bucket_of(&record);
    let before = store.heads().await.unwrap()[usize::from(bucket)];
    let first = put(store, &record, None, 1_000).await;
    store.write(&record, None, 2_000).await.unwrap();
    assert_eq!(
        store.heads().await.unwrap()[usize::from(bucket)],
        before + 2
    );
    let found = store.changes(bucket, before).await.unwrap();
    assert!(!found.missed);
    let shown: Vec<_> = found
        .changes
        .iter()
        .map(|(number, listed)| (*number, listed.mark.is_deleted))
        .collect();
    assert_eq!(shown, [(before + 1, false), (before + 2, true)]);
    assert_eq!(found.changes[0].1.id, record);
    assert_eq!(found.changes[0].1.mark.version, first);
    let none = store.changes(bucket, before + 2).await.unwrap();
    assert!(none.changes.is_empty() && !none.missed);

    // Redis drops them by the hundred.
    let many = CHANGES_MAX + 200;
    for number in 0..many {
        put(store, &record, None, 3_000 + number).await;
    }
    let found = store.changes(bucket, before + 2).await.unwrap();
    assert!(found.missed, "{} of {many} are known", found.changes.len());
    let head = store.heads().await.unwrap()[usize::from(bucket)];
    let found = store.changes(bucket, head - CHANGES_MAX + 1).await.unwrap();
    assert!(!found.missed);
    assert_eq!(found.changes.last().unwrap().0, head);
}

pub async fn what_expires_is_gone_for_reads_conditions_and_listings<S: Store>(store: &S) {
    let record = id("expiry", "soon");
    // Redis itself reads the clock, so this uses its time.
    let now_ms = crate::clock::now_ms();
    let version = put(store, &record, Some(now_ms + 60_000), now_ms).await;
    let read = store.read(&record).await.unwrap().unwrap();
    assert_eq!(read.expires_ms, Some(now_ms + 60_000));
    assert!(read.live(now_ms).is_some() && read.live(now_ms + 60_000).is_none());
    assert_eq!(listed(store, "expiry", "", now_ms).await, ["soon"]);

    let later = now_ms + 60_001;
    assert_eq!(
        listed(store, "expiry", "", later).await,
        Vec::<String>::new()
    );
    let write = async |condition: Condition, now_ms| {
        let change = Change::Put {
            value: b"w",
            expires_ms: Some(now_ms),
        };
        store
            .write_if(&record, change, &condition, now_ms)
            .await
            .unwrap()
    };
    let gone = Outcome::Refused(None);
    assert_eq!(write(Condition::Version(version), later).await, gone);
    assert_eq!(write(Condition::Present, later).await, gone);
    assert!(
        matches!(write(Condition::Absent, later).await, Outcome::Done(written) if written.created)
    );
    let read = store.read(&record).await.unwrap();
    assert!(
        read.is_none_or(|read| read.live(later).is_none()),
        "it came with its end"
    );
    // No record is left to delete; a put without an expiry removes the date.
    assert_eq!(store.write(&record, None, later).await.unwrap(), None);
    put(store, &record, None, later).await;
    assert_eq!(store.read(&record).await.unwrap().unwrap().expires_ms, None);
}

/// All records of a bucket, as a peer receives them.
async fn page(store: &dyn Store, bucket: u8) -> Batch {
    let (mut records, mut page) = (Vec::new(), Page::first());
    while !page.is_done() {
        let (some, next) = store.page(bucket, page).await.unwrap();
        records.extend(some);
        page = next;
    }
    Batch::Records {
        records,
        positions: Default::default(),
        clock: Default::default(),
        is_last: false,
    }
}

pub async fn an_expired_record_is_the_same_in_every_unit<S: Store>(member: &S, other: &S) {
    let record = id("expiry", "shared");
    let bucket = bucket_of(&record);
    let now_ms = crate::clock::now_ms();
    put(member, &record, Some(now_ms - 1), now_ms - 10).await;
    member.sweep(now_ms).await.unwrap();
    let all = page(member, bucket).await;
    other.apply(&[(bucket, all)], now_ms).await.unwrap();
    let digest = async |store: &S| {
        // At a time when it was not gone: a record that will be gone is in no digest of its epoch.
        let states = store.states(0).await.unwrap();
        let held = states.iter().find(|held| held.state.bucket == bucket);
        held.unwrap().state.digest
    };
    assert_eq!(digest(other).await, digest(member).await);
    let read = other.read(&record).await.unwrap().unwrap();
    assert!(read.live(now_ms).is_none() && !read.is_deleted());
}

pub async fn a_unit_alone_keeps_nothing_of_what_is_gone<S: Store>(member: &S, alone: &S) {
    let (short, deleted) = (id("gone", "short"), id("gone", "deleted"));
    let now_ms = crate::clock::now_ms();
    for store in [member, alone] {
        put(store, &short, Some(now_ms + 10), now_ms).await;
        put(store, &deleted, None, now_ms).await;
        store.write(&deleted, None, now_ms).await.unwrap();
    }
    let kept = async |store: &S| {
        store.sweep(now_ms + 1_000).await.unwrap();
        let mut kept = BTreeSet::new();
        for record in [&short, &deleted] {
            if let Batch::Records { records, .. } = page(store, bucket_of(record)).await {
                kept.extend(records.into_iter().map(|record| record.id));
            }
        }
        kept.into_iter()
            .filter(|id| id.dataset.as_str() == "gone")
            .count()
    };
    // The other units must learn of it.
    assert_eq!(kept(member).await, 2);
    assert_eq!(kept(alone).await, 0);
}

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

pub async fn a_clock_a_year_ahead_frees_nothing_that_expires_later<S: Store>(
    member: &S,
    alone: &S,
) {
    let hour = id("jump", "hour");
    let bucket = bucket_of(&hour);
    let wall_ms = crate::clock::now_ms();
    let expires_ms = wall_ms + 3_600_000;
    for store in [member, alone] {
        put(store, &hour, Some(expires_ms), wall_ms).await;
        let settled = async |now_ms, wall_ms| {
            let moment = Moment { now_ms, wall_ms };
            store.settled(moment).await.unwrap()
        };
        let before = settled(60_000, wall_ms).await;
        assert!(before.until_ms <= wall_ms && before.doubted_ms.is_none());
        let jumped = settled(61_000, wall_ms + YEAR_MS).await;
        assert!(jumped.until_ms < expires_ms, "{jumped:?}");
        assert!(jumped.doubted_ms.unwrap() > YEAR_MS / 2, "{jumped:?}");
        store.sweep(jumped.until_ms).await.unwrap();
        let fence = BTreeMap::new();
        let collected = store.collect(bucket, jumped.until_ms, &fence).await;
        assert_eq!(collected.unwrap(), 0);
        let read = store.read(&hour).await.unwrap().unwrap();
        assert!(read.live(wall_ms).is_some());
        assert!(
            read.live(wall_ms + YEAR_MS).is_none(),
            "reads follow the clock"
        );
        let right = settled(66_000, wall_ms + 5_000).await;
        assert_eq!(right.doubted_ms, None);
    }
}

pub async fn a_value_that_arrives_while_the_clock_is_ahead_is_kept<S: Store>(
    other: &S,
    member: &S,
) {
    let record = id("jump", "arrives");
    let bucket = bucket_of(&record);
    let now_ms = crate::clock::now_ms();
    put(member, &record, Some(now_ms + 3_600_000), now_ms).await;
    let all = page(member, bucket).await;
    other
        .apply(&[(bucket, all)], now_ms + YEAR_MS)
        .await
        .unwrap();
    let read = other.read(&record).await.unwrap().unwrap();
    assert_eq!(read.live(now_ms).unwrap().0, b"v");
}
