//! Which stats count whom, and what is told of a change.

use super::*;
use unitring_routing::membership::Cause;

fn member(id: &str) -> Member {
    Member::new(id, &format!("{id}:80"))
}

#[test]
fn a_member_that_stays_keeps_its_stats_and_survives_shared_data() {
    let first = Directory::default().with(&[member("a"), member("b")], |_| Shown::default());
    let second = first.with(&[member("b"), member("c")], |_| Shown::default());
    let stats: Vec<_> = second.entries().iter().map(|e| e.stat.as_str()).collect();
    assert_eq!(stats, ["instance.b", "instance.c"]);
    let stored = crate::stored::encode(&second);
    assert_eq!(crate::stored::decode::<Directory>(&stored), Some(second));
}

#[test]
fn by_id_a_member_keeps_its_stats_at_another_address() {
    let first = Directory::default().with(&[member("a")], |_| Shown::default());
    let moved = Member {
        address: "b:80".into(),
        ..member("a")
    };
    let second = first.with(std::slice::from_ref(&moved), |_| Shown::default());
    assert_eq!(second.entries()[0].stat, "instance.a");
    let changes = first.changes(std::slice::from_ref(&moved), Identity::Id);
    assert_eq!(changes, [(moved, Change::Moved)]);
}

#[test]
fn a_first_health_check_that_passes_is_no_recovery_but_one_after_a_failure_is() {
    let sick = Member {
        state: State::Failed(Cause::ActiveCheck),
        ..member("a")
    };
    let step = |directory: &Directory, member: &Member| {
        let members = std::slice::from_ref(member);
        let changes = directory.changes(members, Identity::Address);
        let directory = directory.with(members, |_| Shown::default());
        (directory, changes.first().map(|(_, change)| *change))
    };
    let (start, _) = step(&Directory::default(), &sick);
    let (checked, change) = step(&start, &member("a"));
    assert_eq!(change, None);
    let (failed, change) = step(&checked, &sick);
    assert_eq!(change, Some(Change::Ejected(Cause::ActiveCheck)));
    assert_eq!(step(&failed, &member("a")).1, Some(Change::Recovered));
}

#[test]
fn after_ten_thousand_instances_the_number_of_stats_is_bounded_and_totals_start_anew() {
    let shown = |_: &str| Shown {
        totals: Totals {
            calls: 7,
            updates: 3,
        },
        in_flight: 0,
    };
    let mut directory = Directory::default();
    let mut stats = std::collections::BTreeSet::new();
    let mut sizes = Vec::new();
    for n in 0..10_000 {
        let members = [member(&format!("i{n}")), member(&format!("i{}", n + 1))];
        directory = directory.with(&members, shown);
        stats.extend(directory.entries().iter().map(|entry| entry.stat.clone()));
        if n % 5_000 == 4_999 {
            sizes.push(crate::stored::encode(&directory).len());
        }
    }
    assert!(stats.len() <= stat_names::NAMED_MAX + 4, "{}", stats.len());
    assert_eq!(directory.stat_names().len(), stats.len());
    // What the VMs hand each other does not grow either.
    assert!(sizes[1] <= sizes[0] + 8, "{sizes:?}");
    let last = directory.entries().last().unwrap();
    assert!(last.stat.starts_with("instance.slot-"), "{}", last.stat);
    assert_eq!(
        last.base,
        Totals {
            calls: 7,
            updates: 3
        }
    );
}
