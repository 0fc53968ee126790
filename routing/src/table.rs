//! One service's instances on their rings: the filter decides with this table, and `locate`
//! explains it.
//!
//! A table is immutable. A change of membership makes another table, which is swapped in whole. It
//! is made from the one before, so that a change of one instance in a thousand costs a merge.
//!
//! Each priority that keys fall to has its own ring (`level`). The key decides which priority it
//! falls to (`draw`), as in Envoy. Most services have one priority, and so one ring.

mod draw;
mod level;
mod version;

use std::borrow::Cow;

use crate::bounded::{self, Bound, Choice, Loads, Reason};
use crate::health::{HealthRule, priority_loads};
use crate::membership::{Identity, Member};
use crate::movement;
use crate::ring::{HostIndex, RingError, Shape};
use draw::Draw;
use level::{Level, Shifted};

/// How instances are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How a ring is filled.
    pub shape: Shape,
    /// The identity by which an instance is placed.
    pub identity: Identity,
    /// How health decides which instances are on a ring.
    pub health: HealthRule,
}

impl Rule {
    /// A rule with Envoy's defaults for health.
    pub fn new(shape: Shape, identity: Identity) -> Self {
        Self {
            shape,
            identity,
            health: HealthRule::default(),
        }
    }
}

/// Why Envoy's own policy has to place a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// No instance is known to take requests.
    NoRing,
    /// A header cannot name the owner of the key.
    Unnameable,
    /// Several addresses share the owner's name, and which of them Envoy takes is unknown.
    Ambiguous,
}

/// The instances that take requests, and their rings.
#[derive(Debug, Clone)]
pub struct Table {
    rule: Rule,
    /// The instances that take requests, priority by priority.
    hosts: Vec<Member>,
    levels: Vec<Level>,
    draw: Draw,
    /// The ring of the first priority as it would be with every instance in full health; only while
    /// some instance is not.
    whole: Option<(Vec<Member>, Level)>,
    version: u64,
}

impl Table {
    /// A table without instances.
    pub fn empty(rule: Rule) -> Self {
        Self {
            version: version::of(&[], &[], &rule),
            rule,
            hosts: Vec::new(),
            levels: Vec::new(),
            draw: Draw::default(),
            whole: None,
        }
    }

    /// The table of these members. Members that may take no requests get no place on a ring.
    ///
    /// # Errors
    /// As [`crate::ring::Ring::build`].
    pub fn build(members: &[Member], rule: Rule) -> Result<Self, RingError> {
        Self::empty(rule).update(members)
    }

    /// The table of these members under the same rule: equal to [`Table::build`], but only what
    /// differs is hashed.
    ///
    /// # Errors
    /// As [`crate::ring::Ring::build`].
    pub fn update(&self, members: &[Member]) -> Result<Self, RingError> {
        self.update_by(members, self.rule)
    }

    /// Like [`Table::update`], under another rule. Members that are handed over are not copied.
    ///
    /// # Errors
    /// As [`crate::ring::Ring::build`].
    pub fn update_by<'a>(
        &self,
        members: impl Into<Cow<'a, [Member]>>,
        rule: Rule,
    ) -> Result<Self, RingError> {
        let mut members = members.into();
        let loads = priority_loads(&members, &rule.health);
        let (mut hosts, mut levels) = (Vec::new(), Vec::new());
        for (priority, load) in (0u32..).zip(&loads) {
            if load.healthy + load.degraded == 0 {
                continue;
            }
            let placed = level::hosts_of(&mut members, priority, load.panics);
            let level = self
                .before(priority, &rule)
                .update(placed, &mut hosts, rule, load)?;
            levels.push(level);
        }
        // Members that were taken out of the list all serve.
        let whole = self.whole_of(&members, rule)?;
        Ok(Self {
            version: version::of(&hosts, &levels, &rule),
            draw: Draw::of(&levels),
            rule,
            hosts,
            levels,
            whole,
        })
    }

    /// The inputs from which the ring of a priority can be made.
    fn before(&self, priority: u32, rule: &Rule) -> level::Before<'_> {
        let mut levels = self.levels.iter();
        let level = levels.find(|level| level.priority == priority);
        level.map_or_else(
            || level::Before::nothing(priority),
            |level| level.before(&self.hosts, &self.rule, rule),
        )
    }

    fn whole_of(
        &self,
        members: &[Member],
        rule: Rule,
    ) -> Result<Option<(Vec<Member>, Level)>, RingError> {
        if level::all_serve(members) {
            return Ok(None);
        }
        let Some(first) = members.iter().map(|member| member.priority).min() else {
            return Ok(None);
        };
        let before = match &self.whole {
            Some((hosts, level)) if level.priority == first => {
                level.before(hosts, &self.rule, &rule)
            }
            _ => self.before(first, &rule),
        };
        let placed = level::hosts_of(&mut members.into(), first, true);
        let mut hosts = Vec::new();
        let load = crate::health::PriorityLoad {
            healthy: 100,
            ..Default::default()
        };
        let level = before.update(placed, &mut hosts, rule, &load)?;
        Ok(Some((hosts, level)))
    }

    /// The rule by which its instances are placed.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The instances that take requests, by [`HostIndex`].
    pub fn hosts(&self) -> &[Member] {
        &self.hosts
    }

    /// The instance at an index.
    pub fn host(&self, index: HostIndex) -> Option<&Member> {
        self.hosts.get(index.get())
    }

    /// How many virtual nodes its rings have in total.
    pub fn points(&self) -> usize {
        self.levels.iter().map(|level| level.ring.len()).sum()
    }

    /// Names the content of the rings: equal on every machine for equal members in equal order and
    /// an equal rule. 16 hex digits.
    pub fn version(&self) -> String {
        format!("{:016x}", self.version)
    }

    /// The owner of a hash among the instances that take requests.
    pub fn owner(&self, hash: u64) -> Option<HostIndex> {
        self.level(hash)?.owner_in_table(hash)
    }

    #[inline]
    fn level(&self, hash: u64) -> Option<&Level> {
        self.levels.get(self.draw.place(hash)?)
    }

    /// How many requests an instance may have in flight while the service has `total`.
    pub fn capacity(&self, bound: &Bound, host: HostIndex, total: u64) -> u64 {
        let mut levels = self.levels.iter();
        let level = levels.find(|level| level.range().contains(&host.get()));
        let weight = level.map_or((0, 0), |level| level.weight_of(host));
        bound.capacity(total, weight)
    }

    /// Chooses up to `wanted` candidates for a key, and takes a place on the first. `loads` is
    /// asked by index into [`Table::hosts`]. Envoy's own policy would use the same set of instances
    /// for this key.
    ///
    /// # Errors
    /// [`Left`] if Envoy's own policy has to choose.
    pub fn choose(
        &self,
        hash: u64,
        wanted: usize,
        bound: &Bound,
        loads: &impl Loads,
    ) -> Result<Choice, Left> {
        let level = self.level(hash).ok_or(Left::NoRing)?;
        if level.is_ambiguous(hash) {
            return Err(Left::Ambiguous);
        }
        let loads = Shifted::new(level, loads);
        let choice = bounded::choose(level, hash, wanted, bound, &level.weights, &loads);
        let Some(mut choice) = choice else {
            let has_owner = level.ring.owner(hash).is_some();
            return Err(if has_owner {
                Left::Unnameable
            } else {
                Left::NoRing
            });
        };
        choice.candidates.shift(level.base);
        if choice.reason == Reason::Primary && !self.is_true_owner(hash, choice.candidates.first())
        {
            choice.reason = Reason::Ejected;
        }
        Ok(choice)
    }

    /// Whether `host` would own the hash if every instance were in full health.
    fn is_true_owner(&self, hash: u64, host: HostIndex) -> bool {
        self.whole.as_ref().is_none_or(|(hosts, level)| {
            let owner = level.owner_in_table(hash);
            owner
                .and_then(|owner| hosts.get(owner.get()))
                .map(name(self))
                == self.host(host).map(name(self))
        })
    }

    /// The share of all keys whose owner differs from that in `old`, 0 to 1.
    pub fn moved_from(&self, old: &Table) -> f64 {
        let moved = |old_level: Option<&Level>, new_level: Option<&Level>| {
            let (Some(a), Some(b)) = (old_level, new_level) else {
                return if old_level.is_some() == new_level.is_some() {
                    0.0
                } else {
                    1.0
                };
            };
            movement::moved_share(&a.ring, &b.ring, |at, to| {
                let before = old.host(a.in_table(at)).map(name(old));
                before == self.host(b.in_table(to)).map(name(self))
            })
        };
        // The priority that a key falls to is independent of its place on a ring.
        let pairs = self.draw.pairs_with(&old.draw);
        let shares = pairs.into_iter().map(|(new, old_place, part)| {
            let new_level = new.and_then(|at| self.levels.get(at));
            let old_level = old_place.and_then(|at| old.levels.get(at));
            part * moved(old_level, new_level)
        });
        shares.sum()
    }
}

/// Identifies a member of a table. The hash key alone does not, since several members may share
/// one.
fn name(table: &Table) -> impl Fn(&Member) -> (&str, &str) {
    let identity = table.rule.identity;
    move |member| match identity {
        Identity::Address => (member.name(identity), member.address.as_str()),
        Identity::Id => (member.name(identity), ""),
    }
}

#[cfg(test)]
mod tests;
