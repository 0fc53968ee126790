//! Which stats count an instance, and which changes become events.

use super::*;
use crate::settings::Settings;
use unitring_routing::membership::Cause;

fn placing() -> Placing {
    Placing::unasked(&Settings::of(r#"{"service": "orders"}"#))
}

/// Consecutive directories of a process, and the names that they give.
struct Process {
    directory: Directory,
    names: StatNames,
}

impl Process {
    fn new() -> Self {
        Self {
            directory: Directory::empty(placing()),
            names: StatNames::default(),
        }
    }

    fn goes_on_with(&mut self, members: &[Member], shown: impl Fn(&str) -> Shown) -> &Directory {
        let next = self
            .directory
            .with(members, placing(), &mut self.names, shown);
        self.directory = next;
        &self.directory
    }
}

fn member(id: &str) -> Member {
    Member::new(id, &format!("{id}:80"))
}

#[test]
fn a_member_that_stays_keeps_its_stats_and_survives_shared_data() {
    let mut process = Process::new();
    process.goes_on_with(&[member("a"), member("b")], |_| Shown::default());
    let second = process.goes_on_with(&[member("b"), member("c")], |_| Shown::default());
    let second = second.clone();
    let stats: Vec<_> = second.entries().iter().map(|e| e.stat.as_str()).collect();
    assert_eq!(stats, ["instance.b", "instance.c"]);
    let stored = second.encode();
    assert_eq!(reader::Reader::default().read(stored), Some(second));
}

#[test]
fn by_id_a_member_keeps_its_stats_at_another_address() {
    let mut process = Process::new();
    process.goes_on_with(&[member("a")], |_| Shown::default());
    let moved = Member {
        address: "b:80".into(),
        ..member("a")
    };
    let members = std::slice::from_ref(&moved);
    let changes = process.directory.changes(members, Identity::Id);
    let second = process.goes_on_with(members, |_| Shown::default());
    assert_eq!(second.entries()[0].stat, "instance.a");
    assert_eq!(changes, [(moved, Change::Moved)]);
}

#[test]
fn a_first_health_check_that_passes_is_no_recovery_but_one_after_a_failure_is() {
    let sick = Member {
        state: State::Failed(Cause::ActiveCheck),
        ..member("a")
    };
    let mut process = Process::new();
    let mut step = |member: &Member| {
        let members = std::slice::from_ref(member);
        let changes = process.directory.changes(members, Identity::Address);
        process.goes_on_with(members, |_| Shown::default());
        changes.first().map(|(_, change)| *change)
    };
    step(&sick);
    assert_eq!(step(&member("a")), None);
    let ejected = Change::Ejected(Cause::ActiveCheck);
    assert_eq!(step(&sick), Some(ejected));
    assert_eq!(step(&member("a")), Some(Change::Recovered));
}

#[test]
fn after_ten_thousand_instances_the_number_of_stats_is_bounded_and_totals_start_anew() {
    let shown = |_: &str| Shown {
        totals: Totals {
            calls: 7,
            failures: 2,
            updates: 3,
            ..Totals::default()
        },
        in_flight: 0,
        ..Shown::default()
    };
    let mut process = Process::new();
    let mut stats = std::collections::BTreeSet::new();
    let mut sizes = Vec::new();
    for n in 0..10_000 {
        let members = [member(&format!("i{n}")), member(&format!("i{}", n + 1))];
        let directory = process.goes_on_with(&members, shown);
        stats.extend(directory.entries().iter().map(|entry| entry.stat.clone()));
        if n % 5_000 == 4_999 {
            let size = |bytes: Vec<u8>| bytes.len();
            let directory = size(directory.encode());
            sizes.push(directory + size(crate::stored::encode(&process.names)));
        }
    }
    assert!(stats.len() <= stat_names::NAMED_MAX + 4, "{}", stats.len());
    assert_eq!(process.names.given().len(), stats.len());
    // The state that VMs share does not grow either.
    assert!(sizes[1] <= sizes[0] + 8, "{sizes:?}");
    let last = process.directory.entries().last().unwrap();
    assert!(last.stat.starts_with("instance.slot-"), "{}", last.stat);
    assert_eq!(
        last.base,
        Totals {
            calls: 7,
            failures: 2,
            updates: 3,
            ..Totals::default()
        }
    );
}
