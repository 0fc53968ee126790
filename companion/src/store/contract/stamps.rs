//! The contract of a store for data updates: each applies once, and never after a later one of its source.

use std::collections::BTreeMap;

use unitring_protocol::record::{RecordId, Version};

use super::records::id;
use crate::replica::digest::bucket_of;
use crate::replica::stamps::{SOURCES_MAX, STAMPS_KEPT_MS, Source, Stamp};
use crate::store::{Change, Condition, Outcome, Store};

/// When the first update arrives.
const NOW_MS: u64 = 50_000;

fn stamp(source: &str, sequence: u64, vm: u64) -> Stamp {
    Stamp {
        source: Source::of("token edge", source),
        sequence,
        vm,
    }
}

/// A record that updates arrive for.
struct Updated<'a> {
    store: &'a dyn Store,
    id: RecordId,
    now_ms: u64,
}

impl<'a> Updated<'a> {
    fn of(store: &'a dyn Store, key: &str) -> Self {
        Self {
            store,
            id: id("updates", key),
            now_ms: NOW_MS,
        }
    }

    async fn change(&mut self, change: Change<'_>, condition: Condition) -> Outcome {
        self.now_ms += 1;
        let changed = self
            .store
            .write_if(&self.id, change, &condition, self.now_ms);
        changed.await.unwrap()
    }

    /// An update arrives; `None` deletes.
    async fn arrives(&mut self, stamp: Stamp, value: Option<&str>) -> Outcome {
        let change = Change::from(value.map(str::as_bytes));
        self.change(change, Condition::After(stamp)).await
    }

    async fn applies(&mut self, stamp: Stamp, value: Option<&str>) -> Version {
        match self.arrives(stamp, value).await {
            Outcome::Done(written) => written.version,
            other => panic!("{stamp} is not applied: {other:?}"),
        }
    }

    async fn is_overtaken(&mut self, stamp: Stamp, value: Option<&str>) {
        let before = self.store.read(&self.id).await.unwrap();
        assert_eq!(
            self.arrives(stamp, value).await,
            Outcome::Overtaken,
            "{stamp}"
        );
        assert_eq!(self.store.read(&self.id).await.unwrap(), before, "{stamp}");
    }

    async fn is(&self, value: Option<&str>) {
        let record = self.store.read(&self.id).await.unwrap();
        let live = record.as_ref().and_then(|record| record.live(self.now_ms));
        assert_eq!(
            live.map(|value| value.0.clone()),
            value.map(|value| value.as_bytes().to_vec())
        );
    }
}

pub async fn an_update_that_is_sent_again_changes_nothing(store: &dyn Store) {
    let mut record = Updated::of(store, "again");
    record.applies(stamp("e1", 1, 0), Some("one")).await;
    let bucket = bucket_of(&record.id);
    let changes = store.changes(bucket, 0).await.unwrap();
    record.is_overtaken(stamp("e1", 1, 0), Some("one")).await;
    assert_eq!(store.changes(bucket, 0).await.unwrap(), changes);
    record.applies(stamp("e1", 2, 0), Some("two")).await;
    record.is_overtaken(stamp("e1", 2, 0), Some("two")).await;
    record.is(Some("two")).await;
    // Its own number, compared as one.
    record.applies(stamp("e1", 10, 0), None).await;
    record.is_overtaken(stamp("e1", 9, 0), Some("nine")).await;
    record.is(None).await;
}

pub async fn the_vm_decides_between_updates_of_one_moment(store: &dyn Store) {
    let mut record = Updated::of(store, "vm");
    record.applies(stamp("e1", 7, 10), Some("10")).await;
    record.is_overtaken(stamp("e1", 7, 9), Some("9")).await;
    record.applies(stamp("e1", 7, 255), Some("255")).await;
    record.applies(stamp("e1", 7, u64::MAX), Some("max")).await;
    record.is_overtaken(stamp("e1", 7, 255), Some("255")).await;
    record.applies(stamp("e1", 8, 0), Some("later")).await;
    record.is(Some("later")).await;
    let last = (1 << 53) - 1;
    record.applies(stamp("e1", last - 1, 0), Some("last")).await;
    record.applies(stamp("e1", last, 0), Some("the last")).await;
    record
        .is_overtaken(stamp("e1", last - 1, 0), Some("last"))
        .await;
}

pub async fn an_earlier_update_that_arrives_later_brings_nothing_back(store: &dyn Store) {
    let mut record = Updated::of(store, "late");
    record.applies(stamp("e1", 5, 0), Some("five")).await;
    record.is_overtaken(stamp("e1", 4, 0), Some("four")).await;
    record.applies(stamp("e1", 6, 0), None).await;
    record.is_overtaken(stamp("e1", 5, 0), Some("five")).await;
    // The deletion found nothing, and is the last update all the same.
    let nothing = record.arrives(stamp("e1", 8, 0), None).await;
    assert_eq!(nothing, Outcome::Nothing);
    record.is_overtaken(stamp("e1", 7, 0), Some("seven")).await;
    record.is_overtaken(stamp("e1", 8, 0), None).await;
    // Nor does it apply once the tombstone of the record is collected.
    let bucket = bucket_of(&record.id);
    let all = BTreeMap::new();
    store.collect(bucket, record.now_ms, &all).await.unwrap();
    record.is_overtaken(stamp("e1", 7, 0), Some("seven")).await;
    record.is(None).await;
    record.applies(stamp("e1", 9, 0), Some("nine")).await;
}

pub async fn an_update_sent_again_does_not_undo_what_came_between(store: &dyn Store) {
    let mut record = Updated::of(store, "between");
    record.applies(stamp("e1", 5, 0), Some("e1's")).await;
    // Another Envoy's clock does not count: the update that arrives later wins.
    record.applies(stamp("e2", 1, 0), Some("e2's")).await;
    record.is_overtaken(stamp("e1", 5, 0), Some("e1's")).await;
    record.is(Some("e2's")).await;
    let written = record
        .change(Some(&b"written"[..]).into(), Condition::Any)
        .await;
    assert!(matches!(written, Outcome::Done(_)));
    record.is_overtaken(stamp("e2", 1, 0), Some("e2's")).await;
    record.is_overtaken(stamp("e1", 5, 0), None).await;
    record.is(Some("written")).await;
    record.change(Change::Delete, Condition::Any).await;
    record.is_overtaken(stamp("e2", 1, 0), Some("e2's")).await;
    let expires_ms = Some(record.now_ms + 1_000);
    let brief = Change::Put {
        value: b"brief",
        expires_ms,
    };
    let done = record
        .change(brief, Condition::After(stamp("e1", 6, 0)))
        .await;
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    record.now_ms += 2_000;
    store.sweep(record.now_ms).await.unwrap();
    record.is_overtaken(stamp("e1", 6, 0), Some("brief")).await;
    record.is(None).await;
}

pub async fn so_many_sources_are_remembered_the_last_ones(store: &dyn Store) {
    let mut record = Updated::of(store, "sources");
    let name = |number: usize| format!("e{number}");
    for number in 0..SOURCES_MAX {
        record.applies(stamp(&name(number), 1, 0), Some("x")).await;
    }
    // The first is no longer the one whose last update is oldest.
    record.applies(stamp("e0", 2, 0), Some("x")).await;
    record
        .applies(stamp(&name(SOURCES_MAX), 1, 0), Some("x"))
        .await;
    for number in (2..=SOURCES_MAX).chain([0]) {
        record
            .is_overtaken(stamp(&name(number), 1, 0), Some("y"))
            .await;
    }
    record.applies(stamp("e1", 1, 0), Some("forgotten")).await;
    record.applies(stamp("e2", 1, 0), Some("forgotten")).await;
    record.is_overtaken(stamp("e4", 1, 0), Some("y")).await;
}

pub async fn an_hour_after_the_last_update_all_are_forgotten(store: &dyn Store) {
    let mut record = Updated::of(store, "hour");
    record.applies(stamp("e1", 5, 0), Some("five")).await;
    record.now_ms += STAMPS_KEPT_MS / 2;
    record.applies(stamp("e2", 1, 0), Some("other")).await;
    let last_ms = record.now_ms;
    record.now_ms = last_ms + STAMPS_KEPT_MS - 2;
    store.sweep(record.now_ms).await.unwrap();
    record.is_overtaken(stamp("e1", 5, 0), Some("five")).await;
    store.sweep(last_ms + STAMPS_KEPT_MS).await.unwrap();
    record.applies(stamp("e1", 5, 0), Some("five")).await;
    record.applies(stamp("e2", 1, 0), Some("other")).await;
}
