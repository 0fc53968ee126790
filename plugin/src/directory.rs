//! Members → what all VMs of the process route by: the members, and the stats that count each.
//!
//! The VM with the lease makes a new directory when discovery finds a change, and hands it to the
//! others through shared data. Names of stats are given here and nowhere else, because Envoy never
//! frees one: see [`stat_names`].

pub mod stat_names;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use unitring_routing::membership::{Change, Member, diff};

use stat_names::StatNames;

/// The members of a service with their stats.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    entries: Vec<Entry>,
    names: StatNames,
}

/// One member and what counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What people call it.
    pub id: String,
    /// Where requests go.
    pub address: String,
    /// Its share.
    pub weight: NonZeroU32,
    /// Whether it may take requests.
    pub healthy: bool,
    /// Whether it was ever healthy. Envoy counts a host as unhealthy until its first active check,
    /// so that what becomes healthy for the first time has not recovered from anything.
    pub was_healthy: bool,
    /// Its stats are `unitring.<service>.<stat>.calls` and so on.
    pub stat: String,
    /// What the counters of a reused stat showed before this member.
    pub base: Totals,
}

/// Counters of an instance since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests sent to it.
    pub calls: u64,
    /// Data updates it made.
    pub updates: u64,
}

/// What a stat shows now, for the whole process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    /// The counters.
    pub totals: Totals,
    /// The gauge.
    pub in_flight: u64,
}

impl Directory {
    /// The entries, in discovery's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The members, in discovery's order.
    pub fn members(&self) -> Vec<Member> {
        let member = |entry: &Entry| Member {
            id: entry.id.clone(),
            address: entry.address.clone(),
            weight: entry.weight,
            healthy: entry.healthy,
        };
        self.entries.iter().map(member).collect()
    }

    /// What these members change, as events tell it.
    pub fn changes(&self, members: &[Member]) -> Vec<(Member, Change)> {
        let unknown = |member: &Member| {
            let mut entries = self.entries.iter();
            entries.any(|entry| entry.address == member.address && !entry.was_healthy)
        };
        diff(&self.members(), members)
            .into_iter()
            .filter(|(member, change)| *change != Change::Recovered || !unknown(member))
            .map(|(member, change)| (member.clone(), change))
            .collect()
    }

    /// The directory of these members; one that stays keeps its stats. `shown` reads a stat.
    pub fn with(&self, members: &[Member], shown: impl Fn(&str) -> Shown) -> Self {
        let old: BTreeMap<&str, &Entry> = self
            .entries
            .iter()
            .map(|entry| (entry.address.as_str(), entry))
            .collect();
        let mut names = self.names.clone();
        names.release_gone(
            |id| members.iter().any(|member| member.id == id),
            |stat| shown(stat).in_flight == 0,
        );
        let entry = |member: &Member| {
            let kept = old
                .get(member.address.as_str())
                .filter(|old| old.id == member.id);
            let (stat, base) = match kept {
                Some(old) => (old.stat.clone(), old.base),
                None => {
                    let (stat, shared) = names.give(&member.id);
                    let base = if shared {
                        shown(&stat).totals
                    } else {
                        Totals::default()
                    };
                    (stat, base)
                }
            };
            Entry {
                id: member.id.clone(),
                address: member.address.clone(),
                weight: member.weight,
                healthy: member.healthy,
                was_healthy: member.healthy || kept.is_some_and(|old| old.was_healthy),
                stat,
                base,
            }
        };
        let entries = members.iter().map(entry).collect();
        Self { entries, names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str) -> Member {
        Member {
            id: id.into(),
            address: format!("{id}:80"),
            weight: NonZeroU32::MIN,
            healthy: true,
        }
    }

    #[test]
    fn a_member_that_stays_keeps_its_stats_and_survives_shared_data() {
        let first = Directory::default().with(&[member("a"), member("b")], |_| Shown::default());
        let second = first.with(&[member("b"), member("c")], |_| Shown::default());
        let stats: Vec<_> = second.entries().iter().map(|e| e.stat.as_str()).collect();
        assert_eq!(stats, ["instance.b", "instance.c"]);
        let json = serde_json::to_vec(&second).unwrap();
        assert_eq!(serde_json::from_slice::<Directory>(&json).unwrap(), second);
    }

    #[test]
    fn a_first_health_check_that_passes_is_no_recovery_but_one_after_a_failure_is() {
        let sick = Member {
            healthy: false,
            ..member("a")
        };
        let step = |directory: &Directory, member: &Member| {
            let changes = directory.changes(std::slice::from_ref(member));
            let directory = directory.with(std::slice::from_ref(member), |_| Shown::default());
            (directory, changes.first().map(|(_, change)| *change))
        };
        let (start, _) = step(&Directory::default(), &sick);
        let (checked, change) = step(&start, &member("a"));
        assert_eq!(change, None);
        let (failed, change) = step(&checked, &sick);
        assert_eq!(change, Some(Change::Ejected));
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
        for n in 0..10_000 {
            let members = [member(&format!("i{n}")), member(&format!("i{}", n + 1))];
            directory = directory.with(&members, shown);
            stats.extend(directory.entries().iter().map(|entry| entry.stat.clone()));
        }
        assert!(stats.len() <= stat_names::NAMED_MAX + 4, "{}", stats.len());
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
}
