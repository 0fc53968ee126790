//! One service's instances on their ring: what the filter decides with, and `locate` explains.
//!
//! Immutable: a change of membership makes another table, which is swapped in whole. It is made
//! from the one before, so that a change of one instance in a thousand costs a merge.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::bounded::{self, Bound, Choice, Loads, Reason, Weights};
use crate::hash::{HashFunction, xxh64_chain};
use crate::membership::{Identity, Member, eligible};
use crate::movement;
use crate::ring::{Host, HostIndex, Ring, RingError, Shape};

/// How instances are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How the ring is filled.
    pub shape: Shape,
    /// What an instance is placed by.
    pub identity: Identity,
}

/// The ring of the eligible instances, with the instances.
#[derive(Debug, Clone)]
pub struct Table {
    rule: Rule,
    /// Those that take requests.
    eligible: Placed,
    /// The ring as it would be with everyone eligible; only while somebody is not.
    whole: Option<Placed>,
    weights: Weights,
    version: u64,
}

/// Instances and their ring.
#[derive(Debug, Clone)]
struct Placed {
    members: Vec<Member>,
    ring: Arc<Ring>,
}

impl Table {
    /// A table of nobody.
    pub fn empty(rule: Rule) -> Self {
        let nobody = Placed {
            members: Vec::new(),
            ring: Arc::default(),
        };
        Self {
            version: version_of(&[], rule),
            rule,
            eligible: nobody,
            whole: None,
            weights: Weights::default(),
        }
    }

    /// The table of these members; the ones that may take no requests get no place on the ring.
    ///
    /// # Errors
    /// As [`Ring::build`].
    pub fn build(members: &[Member], rule: Rule) -> Result<Self, RingError> {
        Self::empty(rule).update(members)
    }

    /// The table of these members under the same rule: equal to [`Table::build`], but only what
    /// differs is hashed.
    ///
    /// # Errors
    /// As [`Ring::build`].
    pub fn update(&self, members: &[Member]) -> Result<Self, RingError> {
        let hosts: Vec<Member> = eligible(members).cloned().collect();
        let all_are = hosts.len() == members.len();
        let eligible = self.eligible.update(hosts, self.rule)?;
        let whole = if all_are {
            None
        } else {
            let before = self.whole.as_ref().unwrap_or(&self.eligible);
            Some(before.update(members.to_vec(), self.rule)?)
        };
        let weights = eligible.members.iter().map(Member::effective_weight);
        Ok(Self {
            rule: self.rule,
            whole,
            weights: weights.map(NonZeroU64::get).collect(),
            version: version_of(&eligible.members, self.rule),
            eligible,
        })
    }

    /// How its instances are placed.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The instances that take requests, in ring order of index.
    pub fn hosts(&self) -> &[Member] {
        &self.eligible.members
    }

    /// One of them.
    pub fn host(&self, index: HostIndex) -> Option<&Member> {
        self.hosts().get(index.get())
    }

    /// How many virtual nodes the ring has.
    pub fn points(&self) -> usize {
        self.eligible.ring.len()
    }

    /// Names the content of the ring: equal for equal members in equal order and an equal rule, on
    /// every machine. 16 hex digits.
    pub fn version(&self) -> String {
        format!("{:016x}", self.version)
    }

    /// Who owns a hash among those that take requests.
    pub fn owner(&self, hash: u64) -> Option<HostIndex> {
        self.eligible.ring.owner(hash)
    }

    /// What an instance may have in flight while the service has `total`.
    pub fn capacity(&self, bound: &Bound, host: HostIndex, total: u64) -> u64 {
        bound.capacity(total, self.weights.of(host.get()))
    }

    /// Chooses up to `wanted` candidates for a key, and takes a place on the first; `loads` is asked
    /// by index into [`Table::hosts`]. `None` if nobody takes requests.
    pub fn choose(
        &self,
        hash: u64,
        wanted: usize,
        bound: &Bound,
        loads: &impl Loads,
    ) -> Option<Choice> {
        let ring = &self.eligible.ring;
        let mut choice = bounded::choose(ring, hash, wanted, bound, &self.weights, loads)?;
        if choice.reason == Reason::Primary && !self.is_true_owner(hash, choice.candidates.first())
        {
            choice.reason = Reason::Ejected;
        }
        Some(choice)
    }

    /// Whether `host` would own the hash were every instance eligible.
    fn is_true_owner(&self, hash: u64, host: HostIndex) -> bool {
        self.whole.as_ref().is_none_or(|whole| {
            let owner = whole.ring.owner(hash);
            owner.and_then(|owner| self.name(&whole.members, owner))
                == self.name(self.hosts(), host)
        })
    }

    /// The share of all keys with another owner than in `old`, 0 to 1.
    pub fn moved_from(&self, old: &Table) -> f64 {
        movement::moved_share(&old.eligible.ring, &self.eligible.ring, |a, b| {
            self.name(old.hosts(), a) == self.name(self.hosts(), b)
        })
    }

    fn name<'a>(&self, members: &'a [Member], host: HostIndex) -> Option<&'a str> {
        let member = members.get(host.get())?;
        Some(member.name(self.rule.identity))
    }
}

impl Placed {
    fn update(&self, members: Vec<Member>, rule: Rule) -> Result<Self, RingError> {
        let before = hosts_of(&self.members, rule.identity);
        let after = hosts_of(&members, rule.identity);
        let ring = if before == after {
            Arc::clone(&self.ring)
        } else {
            Arc::new(self.ring.update(&before, &after, rule.shape)?)
        };
        drop(after);
        Ok(Self { members, ring })
    }
}

fn hosts_of(members: &[Member], identity: Identity) -> Vec<Host<'_>> {
    let host = |member| Host {
        name: Member::name(member, identity),
        weight: member.effective_weight(),
    };
    members.iter().map(host).collect()
}

fn version_of(hosts: &[Member], rule: Rule) -> u64 {
    let hash = |hash| match hash {
        HashFunction::XxHash64 => 0,
        HashFunction::Murmur2 => 1,
    };
    let shape = match rule.shape {
        Shape::Envoy {
            hash: function,
            min_size,
            max_size,
        } => [0, hash(function), min_size, max_size],
        Shape::Fixed {
            hash: function,
            virtual_nodes,
            max_size,
        } => [1, hash(function), virtual_nodes.get().into(), max_size],
        Shape::Maglev { table_size } => [2, 0, table_size.get().into(), 0],
    };
    let shape = shape.map(u64::to_le_bytes);
    let weights: Vec<[u8; 8]> = hosts
        .iter()
        .map(|host| host.effective_weight().get().to_le_bytes())
        .collect();
    let names = hosts.iter().map(|host| host.name(rule.identity).as_bytes());
    let hosts = names.zip(&weights);
    let parts = hosts.flat_map(|(name, weight)| [name, weight.as_slice()]);
    xxh64_chain(shape.iter().map(<[u8; 8]>::as_slice).chain(parts))
}

#[cfg(test)]
mod tests;
