//! Members → the state by which all VMs of the process route: the members, and the stats that count
//! each.
//!
//! When discovery or health finds a change, the VM with the lease makes a new directory and
//! publishes it in shared data. Names of stats are given here and nowhere else, because Envoy never
//! frees one: see [`stat_names`]. The other VMs read it with a [`reader`].

pub mod reader;
pub mod stat_names;

use std::sync::Arc;

use unitring_routing::membership::{Change, Identity, Member, State, diff, known_by};
use unitring_routing::names::Names;

use crate::placement::Placing;
use crate::stored::{self, Stored as _, stored};
use stat_names::StatNames;

/// The members of a service with their stats, and how requests are placed on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Shared by successive directories as far as they have the same ones.
    entries: Vec<Arc<Entry>>,
    placing: Placing,
}

/// A member and the name of its stats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The instance.
    pub member: Member,
    /// Whether it has ever served. Envoy counts a host as unhealthy until its first active check,
    /// so an instance that becomes healthy for the first time has not recovered from anything.
    pub served: bool,
    /// The prefix of its stats: `unitring.<service>.<stat>.calls` and so on.
    pub stat: String,
    /// The values of a reused stat's counters before this member.
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
    /// Attempts sent to it.
    pub calls: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Data updates it announced.
    pub updates: u64,
    /// Bytes of their values.
    pub update_bytes: u64,
    /// Announcements that were refused.
    pub updates_refused: u64,
    /// Updates that did not reach the companion.
    pub updates_dropped: u64,
}

stored!(Totals {
    calls,
    failures,
    updates,
    update_bytes,
    updates_refused,
    updates_dropped
});

/// The current values of a stat, for the whole process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    /// The counters.
    pub totals: Totals,
    /// Requests in flight.
    pub in_flight: u64,
    /// Requests in flight that its data updates count as.
    pub update_load: u64,
}

impl Directory {
    /// A directory without members.
    pub fn empty(placing: Placing) -> Self {
        Self {
            entries: Vec::new(),
            placing,
        }
    }

    /// The first directory of a process.
    pub fn first(members: &[Member], placing: Placing) -> Self {
        let names = &mut StatNames::default();
        Self::empty(placing).with(members, placing, names, |_| Shown::default())
    }

    /// The bytes that a [`reader::Reader`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = stored::begin();
        self.placing.write(&mut bytes);
        stored::write_length(self.entries.len(), &mut bytes);
        for entry in &self.entries {
            stored::write_block(&**entry, &mut bytes);
        }
        bytes
    }

    /// How requests are placed.
    pub fn placing(&self) -> Placing {
        self.placing
    }

    /// The entries, in discovery's order.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The members, in discovery's order.
    pub fn members(&self) -> Vec<Member> {
        self.entries.iter().map(|e| e.member.clone()).collect()
    }

    /// Whether it has these members in this order, with this placing.
    pub fn is_of(&self, members: &[Member], placing: Placing) -> bool {
        self.placing == placing && self.entries.iter().map(|entry| &entry.member).eq(members)
    }

    /// The changes to these members, as events report them.
    pub fn changes(&self, members: &[Member], identity: Identity) -> Vec<(Member, Change)> {
        let new = |member: &Member| {
            let mut entries = self.entries.iter();
            let name = known_by(member, identity);
            entries.any(|entry| known_by(&entry.member, identity) == name && !entry.served)
        };
        diff(&self.members(), members, identity)
            .into_iter()
            .filter(|(member, change)| *change != Change::Recovered || !new(member))
            .map(|(member, change)| (member.clone(), change))
            .collect()
    }

    /// The directory of these members. A member that stays keeps its stats. `names` gives stats to
    /// new members, and `shown` reads a stat.
    pub fn with(
        &self,
        members: &[Member],
        placing: Placing,
        names: &mut StatNames,
        shown: impl Fn(&str) -> Shown,
    ) -> Self {
        let old = Names::of(self.entries.iter().map(|entry| entry.member.id.as_str()));
        let ids = Names::of(members.iter().map(|member| member.id.as_str()));
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
            Arc::new(Entry {
                member: member.clone(),
                served: member.state == State::Serving || kept.is_some_and(|old| old.served),
                stat,
                base,
            })
        };
        let entries = members.iter().map(entry).collect();
        Self { entries, placing }
    }
}

#[cfg(test)]
mod tests;
