//! What the status tells, and for how long.

use super::*;

fn unit(name: &str) -> UnitId {
    name.parse().unwrap()
}

#[test]
fn what_is_not_seen_again_is_no_longer_told() {
    let mut status = Status::default();
    assert!(status.set_aside(&unit("west"), "d/k", "why", 1_000));
    assert!(!status.set_aside(&unit("west"), "d/k", "why", 2_000));
    assert!(status.stranger(&unit("south"), 1_000));
    assert!(status.namesake(&unit("north"), 1_000));
    let now_ms = 1_000 + TOLD_MS;
    status.age(|_| None, now_ms - 1);
    assert_eq!((status.set_aside.len(), status.strangers.len()), (1, 1));
    status.age(|_| None, now_ms);
    assert_eq!((status.set_aside.len(), status.strangers.len()), (1, 0));
    assert_eq!(status.namesakes.len(), 0);
    status.age(|_| None, now_ms + 1_000);
    assert_eq!(status.set_aside.len(), 0);
    assert!(status.set_aside(&unit("west"), "d/k", "why", now_ms + 2_000));
}

#[test]
fn a_unit_is_silent_until_it_is_heard_and_a_removed_one_never_is() {
    let (west, north) = (unit("west"), unit("north"));
    let mut status = Status::default();
    let removed = BTreeSet::from([north.clone()]);
    status.begin(&[west.clone(), north.clone()], &removed, false);
    status.age(|_| Some(30_000), 1_000);
    assert_eq!(status.links[&west].silent_ms, Some(30_000));
    assert_eq!(status.links[&north].silent_ms, None);
    status.heard(&west, 1_500);
    assert_eq!(status.links[&west].heard_ms, Some(1_500));
    assert_eq!(status.links[&west].silent_ms, None);
}

#[test]
fn records_messages_and_loads_that_are_too_large_are_named_side_by_side() {
    let west = unit("west");
    let mut status = Status::default();
    status.begin(std::slice::from_ref(&west), &BTreeSet::new(), false);
    let id = RecordId {
        dataset: "d".parse().unwrap(),
        key: "k".parse().unwrap(),
    };
    status.unsendable(&west, 10, &[(id, 20)].into());
    status.oversized(&west, "digests", Some((30, 10)));
    let cut: BTreeMap<_, _> = [("loads of e".to_owned(), "why".to_owned())].into();
    assert!(status.loads_cut(cut.clone()));
    assert!(!status.loads_cut(cut));
    let named = |status: &Status| -> Vec<String> {
        status.links[&west].unsendable.keys().cloned().collect()
    };
    assert_eq!(named(&status), ["d/k", "digests", "loads of e"]);
    assert!(status.is_unsendable("digests"));
    status.unsendable(&west, 10, &BTreeMap::new());
    status.loads_cut(BTreeMap::new());
    assert_eq!(named(&status), ["digests"]);
    status.oversized(&west, "digests", None);
    assert!(named(&status).is_empty());
}

#[test]
fn a_new_beginning_knows_nothing_of_before_and_a_member_is_no_stranger() {
    let west = unit("west");
    let mut status = Status::default();
    status.begin(std::slice::from_ref(&west), &BTreeSet::new(), false);
    status.skew(&west, 7, true);
    status.stranger(&west, 1_000);
    status.begin(std::slice::from_ref(&west), &BTreeSet::new(), false);
    assert_eq!(status.links[&west].clock_skew_ms, None);
    assert!(status.strangers.is_empty());
}
