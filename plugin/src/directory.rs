//! Members → what all VMs of the process route by: the members, and the stats that count each.
//!
//! The VM with the lease makes a new directory when discovery or health finds a change, and hands it
//! to the others through shared data. Names of stats are given here and nowhere else, because Envoy
//! never frees one: see [`stat_names`].

pub mod stat_names;

use unitring_routing::membership::{Change, Identity, Member, State, diff};
use unitring_routing::names::Names;

use crate::stored::stored;
use stat_names::StatNames;

/// The members of a service with their stats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    entries: Vec<Entry>,
    names: StatNames,
}

stored!(Directory { entries, names });

/// One member and what counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The instance.
    pub member: Member,
    /// Whether it ever served. Envoy counts a host as unhealthy until its first active check, so
    /// that what becomes healthy for the first time has not recovered from anything.
    pub served: bool,
    /// Its stats are `unitring.<service>.<stat>.calls` and so on.
    pub stat: String,
    /// What the counters of a reused stat showed before this member.
    pub base: Totals,
}

stored!(Entry {
    member,
    served,
    stat,
    base
});

/// Counters of an instance since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests sent to it.
    pub calls: u64,
    /// Data updates it made.
    pub updates: u64,
}

stored!(Totals { calls, updates });

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
        self.entries.iter().map(|e| e.member.clone()).collect()
    }

    /// Whether these are its members, in this order.
    pub fn is_of(&self, members: &[Member]) -> bool {
        self.entries.iter().map(|entry| &entry.member).eq(members)
    }

    /// Every name of a stat that was ever given.
    pub fn stat_names(&self) -> Vec<String> {
        self.names.given()
    }

    /// What these members change, as events tell it.
    pub fn changes(&self, members: &[Member], identity: Identity) -> Vec<(Member, Change)> {
        let new = |member: &Member| {
            let mut entries = self.entries.iter();
            let name = member.name(identity);
            entries.any(|entry| entry.member.name(identity) == name && !entry.served)
        };
        diff(&self.members(), members, identity)
            .into_iter()
            .filter(|(member, change)| *change != Change::Recovered || !new(member))
            .map(|(member, change)| (member.clone(), change))
            .collect()
    }

    /// The directory of these members; one that stays keeps its stats. `shown` reads a stat.
    pub fn with(&self, members: &[Member], shown: impl Fn(&str) -> Shown) -> Self {
        let old = Names::of(self.entries.iter().map(|entry| entry.member.id.as_str()));
        let ids = Names::of(members.iter().map(|member| member.id.as_str()));
        let mut names = self.names.clone();
        names.release_gone(|id| ids.has(id), |stat| shown(stat).in_flight == 0);
        let entry = |member: &Member| {
            let kept = old.last(&member.id).and_then(|at| self.entries.get(at));
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
                member: member.clone(),
                served: member.state == State::Serving || kept.is_some_and(|old| old.served),
                stat,
                base,
            }
        };
        let entries = members.iter().map(entry).collect();
        Self { entries, names }
    }
}

#[cfg(test)]
mod tests;
