use super::*;
use crate::moment::Moment;
use crate::store::{EVENTS_BYTES_MAX, contract};

fn open_as(folder: &tempfile::TempDir, unit: &str, has_peers: bool) -> Embedded {
    let path = folder.path().join(format!("{unit}.redb"));
    Embedded::open(&path, unit.parse().unwrap(), has_peers).unwrap()
}

fn open(folder: &tempfile::TempDir, unit: &str) -> Embedded {
    open_as(folder, unit, true)
}

async fn fresh() -> contract::Stores<Embedded> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    let open = |unit: &str, has_peers| {
        let file = path.join(format!("{unit}.redb"));
        Embedded::open(&file, unit.parse().unwrap(), has_peers)
    };
    contract::Stores::open(Box::new(folder), open).unwrap()
}

mod keeps {
    crate::with_all_promises!(test_promises crate::store::embedded::tests::fresh);
}

#[tokio::test]
async fn a_write_is_there_after_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let id = contract::id("d", "k");
    let store = open(&folder, "east");
    crate::store::Records::write(&store, &id, Some(b"v"), 1)
        .await
        .unwrap();
    drop(store);
    let record = crate::store::Records::read(&open(&folder, "east"), &id)
        .await
        .unwrap();
    assert_eq!(record.unwrap().value.unwrap().0, b"v");
}

#[tokio::test]
async fn what_a_version_with_fewer_counters_wrote_is_read_and_counted_on() {
    use crate::loads::samples;
    use crate::store::Fleet as _;
    let folder = tempfile::tempdir().unwrap();
    let report = |sequence| {
        let mut instance = samples::instance("10.0.0.9:80");
        (instance.calls, instance.failures) = (10 + sequence, 2 * sequence);
        (instance.updates, instance.updates_dropped) = (sequence, sequence);
        samples::report(("e1", sequence), "orders", vec![instance], vec![])
    };
    let store = open(&folder, "east");
    let first = report(1);
    store
        .take(&samples::load_report(&first), EVENTS_BYTES_MAX, 1_000)
        .await
        .unwrap();
    // Such a file has no tables for failures and for more of updates, and no such fields.
    store
        .write_now(Durability::Immediate, |transaction, _| {
            transaction.delete_table(tables::FAILURES).map_err(away)?;
            transaction
                .delete_table(tables::UPDATE_TOTALS)
                .map_err(away)?;
            let mut loads = transaction.open_table(tables::LOADS).map_err(away)?;
            let key = ("orders", "e1");
            let text = loads.get(key).map_err(away)?.unwrap().value().to_owned();
            let old = text.replace("\"failures\":2,", "");
            let old = old.replace(",\"updates_dropped\":1", "");
            let is_of_later = ["failures", "wiring", "dropped", "update_rates"]
                .iter()
                .any(|field| old.contains(field));
            assert!(!is_of_later, "{text}");
            loads.insert(key, old.as_str()).map_err(away)?;
            Ok(())
        })
        .unwrap();
    drop(store);
    let store = open(&folder, "east");
    let service = "orders".parse().unwrap();
    let counted = async || {
        let totals = store.totals(&service).await.unwrap()["10.0.0.9:80"];
        (totals.calls, totals.failures, totals.updates_dropped)
    };
    assert_eq!(counted().await, (11, 0, 0));
    let second = report(2);
    store
        .take(&samples::load_report(&second), EVENTS_BYTES_MAX, 1_500)
        .await
        .unwrap();
    assert_eq!(counted().await, (12, 4, 2));
}

#[tokio::test]
async fn a_file_knows_how_late_it_is_when_it_is_opened_with_a_clock_a_year_ahead() {
    use crate::store::{DOUBTED_MS, Housekeeping as _};
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    let wall_ms = 1_800_000_000_000;
    let folder = tempfile::tempdir().unwrap();
    let at = async |store: &Embedded, now_ms, wall_ms| {
        let settled = store.settled(Moment { now_ms, wall_ms }).await.unwrap();
        (settled.until_ms, settled.doubted_ms)
    };
    let store = open_as(&folder, "alone", false);
    assert_eq!(at(&store, 9_000, wall_ms).await, (wall_ms, None));
    drop(store);
    // A machine that was off, or whose clock is wrong: nobody can tell.
    let store = open_as(&folder, "alone", false);
    let ahead_ms = wall_ms + YEAR_MS;
    assert_eq!(at(&store, 0, ahead_ms).await, (wall_ms, Some(YEAR_MS)));
    assert_eq!(
        at(&store, DOUBTED_MS, ahead_ms).await,
        (ahead_ms, None),
        "it is believed after an hour"
    );
    drop(store);
    let store = open_as(&folder, "alone", false);
    assert_eq!(at(&store, 9_000, wall_ms).await, (wall_ms, None));
    assert!(at(&store, 9_000, ahead_ms).await.1.is_some());
    // An operator says that it is right.
    crate::store::Replica::reset_clocks(&store, ahead_ms)
        .await
        .unwrap();
    assert_eq!(at(&store, 9_000, ahead_ms).await, (ahead_ms, None));
}

#[tokio::test]
async fn a_compact_gives_back_what_was_deleted_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_as(&folder, "alone", false);
    let value = vec![b'v'; 1 << 16];
    for number in 0..200 {
        let id = contract::id("d", &format!("k{number}"));
        crate::store::Records::write(&store, &id, Some(&value), 1)
            .await
            .unwrap();
    }
    for number in 1..200 {
        let id = contract::id("d", &format!("k{number}"));
        crate::store::Records::write(&store, &id, None, 2)
            .await
            .unwrap();
    }
    let compacted = crate::store::Housekeeping::compact(&store)
        .await
        .unwrap()
        .unwrap();
    assert!(compacted.after * 4 < compacted.before, "{compacted:?}");
    let id = contract::id("d", "k0");
    let record = crate::store::Records::read(&store, &id).await.unwrap();
    assert_eq!(record.unwrap().value.unwrap().0, value);
    assert!(
        crate::store::Records::write(&store, &id, Some(b"v"), 3)
            .await
            .is_ok()
    );
}

#[test]
fn the_file_is_its_owners_alone_and_an_empty_one_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder, "east"));
    let path = folder.path().join("east.redb");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let empty = folder.path().join("empty.redb");
    std::fs::write(&empty, "").unwrap();
    let opened = Embedded::open(&empty, "east".parse().unwrap(), true);
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("is empty"), "{error}");
}

#[test]
fn a_second_process_is_told_that_the_file_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(&folder, "east");
    let path = folder.path().join("east.redb");
    let second = Embedded::open(&path, "east".parse().unwrap(), true);
    assert!(matches!(second, Err(StoreError::InUse { .. })));
}

#[tokio::test]
async fn a_companion_with_other_settings_does_nothing_until_they_are_the_units() {
    use crate::store::{Agreement, Fleet as _, Health as _, Leadership as _, Outbox as _};
    let folder = tempfile::tempdir().unwrap();
    let opened = |unit: &str, settings: &str| {
        let path = folder.path().join("unit.redb");
        let store = Embedded::open(&path, unit.parse().unwrap(), true).unwrap();
        store.agreeing(Agreement(settings.to_owned())).unwrap()
    };
    let id = contract::id("d", "k");
    let put = async |store: &Embedded| {
        let written = crate::store::Records::write(store, &id, Some(b"v"), 1);
        written.await.map(|_| ())
    };
    let store = opened("east", "peers west");
    put(&store).await.unwrap();
    drop(store);
    put(&opened("east", "peers west")).await.unwrap();
    for (unit, settings) in [
        ("east", "no peers"),
        ("east", "peers west,north"),
        ("north", "peers west"),
    ] {
        let store = opened(unit, settings);
        let refused = [
            put(&store).await,
            store.check().await,
            store.lead("me").await.map(|_| ()),
            store.registry().await.map(|_| ()),
            store.waiting().await.map(|_| ()),
        ];
        for refused in refused {
            let error = refused.unwrap_err();
            assert!(error.is_transient() && matches!(error, StoreError::Disagrees { .. }));
            let text = error.to_string();
            let both = [
                format!("unit {unit}, {settings}"),
                "unit east, peers west".to_owned(),
            ];
            assert!(both.iter().all(|part| text.contains(part)), "{text}");
        }
    }
    let store = opened("east", "peers west,north");
    store.agree().await.unwrap();
    put(&store).await.unwrap();
    assert_eq!(store.lead("me").await.unwrap(), Some(1));
    drop(store);
    assert!(opened("east", "peers west").check().await.is_err());
    put(&opened("east", "peers west,north")).await.unwrap();
}
