//! Watchers miss no change, and get none twice.

use super::*;
use crate::store::Records as _;
use crate::store::embedded::Embedded;

fn east() -> UnitId {
    "east".parse().unwrap()
}

#[test]
fn positions_read_back_as_written() {
    let mut at = vec![Place::default(); BUCKETS];
    at[3] = Place {
        number: 17,
        print: 0xbeef,
    };
    at[255].number = u64::MAX;
    let unit = Some(east());
    let positions = Positions { unit, at };
    let text = positions.to_string();
    assert!(text.starts_with("east/...17:beef."), "{text}");
    assert_eq!(text.parse(), Ok(positions));
    for wrong in ["", "1.2", "x", &text[6..], &format!("{text}.1")] {
        assert!(wrong.parse::<Positions>().is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_change_between_the_two_beginnings_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Embedded::open(&path, east(), false).unwrap();
    let mut watcher = Positions::now(&store, &east()).await.unwrap();
    let id = crate::store::contract::id("d", "k");
    store.write(&id, Some(b"v"), 1).await.unwrap();
    // The shared reader begins only now.
    let told = News {
        begins: true,
        ..News::default()
    };
    let news = watcher.follow(&told, &store).await.unwrap();
    assert_eq!(news.steps.len(), 1);
    assert_eq!(watcher, Positions::now(&store, &east()).await.unwrap());
    assert_eq!(
        watcher.follow(&news, &store).await.unwrap(),
        News::default(),
        "not twice"
    );
}

#[tokio::test]
async fn a_store_that_went_back_and_a_position_of_another_unit_are_told_as_missed() {
    let folder = tempfile::tempdir().unwrap();
    let id = crate::store::contract::id("d", "k");
    let store = async |name: &str, values: &[&str]| {
        let path = folder.path().join(name);
        let store = Embedded::open(&path, east(), false).unwrap();
        for (number, value) in (1..).zip(values) {
            let now_ms = number + u64::from(value.as_bytes()[0]);
            store
                .write(&id, Some(value.as_bytes()), now_ms)
                .await
                .unwrap();
        }
        store
    };
    let before = store("before", &["a", "b", "c"]).await;
    let at = Positions::now(&before, &east()).await.unwrap();
    let resumed = async |store: &Embedded, unit: &UnitId| {
        let mut at: Positions = at.to_string().parse().unwrap();
        let news = at.resume(store, unit).await.unwrap();
        (news.missed, news.steps.len())
    };
    assert_eq!(resumed(&before, &east()).await, (false, 0));
    // Other changes have taken its numbers: one fewer, as many, and one more.
    for (name, values, steps) in [
        ("less", &["a", "b"][..], 0),
        ("same", &["a", "b", "x"], 0),
        ("more", &["a", "b", "x", "y"], 1),
    ] {
        let after = store(name, values).await;
        assert_eq!(resumed(&after, &east()).await, (true, steps), "{name}");
    }
    let west = "west".parse().unwrap();
    assert_eq!(resumed(&before, &west).await, (true, 0));
}

#[tokio::test]
async fn a_watcher_that_stayed_gets_what_comes_after_a_store_went_back() {
    let folder = tempfile::tempdir().unwrap();
    let id = crate::store::contract::id("d", "k");
    let path = folder.path().join("store.redb");
    let store = Embedded::open(&path, east(), false).unwrap();
    for now_ms in 1..=3 {
        store.write(&id, Some(b"v"), now_ms).await.unwrap();
    }
    // It saw three more, which are lost.
    let mut watcher = Positions::now(&store, &east()).await.unwrap();
    let bucket = crate::replica::digest::bucket_of(&id);
    watcher.at[usize::from(bucket)] = Place {
        number: 6,
        print: 7,
    };
    let mut reader = watcher.clone();
    for (now_ms, expected) in [(4, (true, 0)), (5, (false, 1))] {
        store.write(&id, Some(b"x"), now_ms).await.unwrap();
        let told = reader.advance(&store).await.unwrap();
        let news = watcher.follow(&told, &store).await.unwrap();
        assert_eq!((news.missed, news.steps.len()), expected);
    }
    assert_eq!(watcher, Positions::now(&store, &east()).await.unwrap());
}

#[tokio::test]
async fn after_an_outage_a_store_with_as_many_other_changes_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let id = crate::store::contract::id("d", "k");
    let path = folder.path().join("store.redb");
    let store = Embedded::open(&path, east(), false).unwrap();
    store.write(&id, Some(b"v"), 1).await.unwrap();
    let mut reader = Positions::now(&store, &east()).await.unwrap();
    let bucket = usize::from(crate::replica::digest::bucket_of(&id));
    reader.at[bucket].print ^= 1;
    assert!(!reader.clone().advance(&store).await.unwrap().missed);
    assert!(reader.resume(&store, &east()).await.unwrap().missed);
}
