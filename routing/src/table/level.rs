//! One priority: its hosts on their ring, and their weights.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use super::Rule;
use crate::bounded::{Loads, Owners, Share, Weights};
use crate::health::PriorityLoad;
use crate::membership::{Locality, Member, State};
use crate::names::{Names, may_repeat, may_repeat_after};
use crate::ring::{Host, HostIndex, Ring, RingError, Shape, WEIGHT_UNIT, as_f64};

/// A priority that keys fall to.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    pub(super) priority: u32,
    /// Its share of keys.
    pub(super) load: PriorityLoad,
    pub(super) ring: Arc<Ring>,
    pub(super) weights: Weights,
    /// The index of its first host among the table's hosts.
    pub(super) base: usize,
    count: usize,
    /// For each host, the host that stands for it: the first with the same address. `None` if no
    /// address occurs twice.
    stands_for: Option<Box<[HostIndex]>>,
    /// The hosts whose keys Envoy may give to another host; `None` if there are none.
    ambiguous: Option<Box<[bool]>>,
}

/// The inputs of an update: the previous ring and its hosts.
pub(super) struct Before<'a> {
    priority: u32,
    ring: Arc<Ring>,
    hosts: &'a [Member],
    /// Whether an address occurs twice among them.
    repeats: bool,
    rule: Option<Rule>,
}

impl<'a> Before<'a> {
    pub(super) fn nothing(priority: u32) -> Self {
        Self {
            priority,
            ring: Arc::default(),
            hosts: &[],
            repeats: false,
            rule: None,
        }
    }

    /// The level of these hosts, which are appended to `table`.
    pub(super) fn update(
        self,
        placed: Vec<Member>,
        table: &mut Vec<Member>,
        rule: Rule,
        load: &PriorityLoad,
    ) -> Result<Level, RingError> {
        let before = ring_hosts(self.hosts, self.rule.as_ref().unwrap_or(&rule));
        let after = ring_hosts(&placed, &rule);
        let ring = if before == after && self.rule.is_some() {
            self.ring
        } else {
            Arc::new(self.ring.update(&before, &after, rule.shape)?)
        };
        let may_repeat = if self.repeats {
            may_repeat(placed.iter().map(|host| host.address.as_str()))
        } else {
            may_repeat_after(self.hosts, &placed, |host| &host.address)
        };
        let stands_for = may_repeat.then(|| first_of_address(&placed));
        let ambiguous = ambiguous(&placed, &after, &rule, stands_for.is_some());
        drop(after);
        let percent = load.healthy + load.degraded;
        let level = Level {
            priority: self.priority,
            load: *load,
            weights: weights(&placed, stands_for.as_deref(), percent),
            ring,
            base: table.len(),
            count: placed.len(),
            stands_for,
            ambiguous,
        };
        table.extend(placed);
        Ok(level)
    }
}

impl Level {
    /// The input for another level of the same priority; empty if the new rule has another shape or
    /// identity.
    pub(super) fn before<'a>(&self, table: &'a [Member], had: &Rule, rule: &Rule) -> Before<'a> {
        if (had.shape, had.identity) != (rule.shape, rule.identity) {
            return Before::nothing(self.priority);
        }
        Before {
            priority: self.priority,
            ring: Arc::clone(&self.ring),
            hosts: table.get(self.range()).unwrap_or_default(),
            repeats: self.stands_for.is_some(),
            rule: Some(*had),
        }
    }

    /// The range of its hosts among the table's hosts.
    pub(super) fn range(&self) -> Range<usize> {
        self.base..self.base + self.count
    }

    pub(super) fn in_table(&self, host: HostIndex) -> HostIndex {
        host.shifted(self.base)
    }

    /// Whether Envoy may have another owner for a hash than this level.
    #[inline]
    pub(super) fn is_ambiguous(&self, hash: u64) -> bool {
        self.ambiguous.as_deref().is_some_and(|ambiguous| {
            let owner = self.ring.owner(hash);
            owner.and_then(|owner| ambiguous.get(owner.get())) == Some(&true)
        })
    }

    pub(super) fn owner_in_table(&self, hash: u64) -> Option<HostIndex> {
        self.owner(hash).map(|host| self.in_table(host))
    }

    /// The weight of a host of the table, and the sum of the weights on this level.
    pub(super) fn weight_of(&self, host: HostIndex) -> (u64, u64) {
        self.weights.of(host.get().saturating_sub(self.base))
    }
}

impl Owners for Level {
    #[inline]
    fn owner(&self, hash: u64) -> Option<HostIndex> {
        let owner = self.ring.owner(hash)?;
        match &self.stands_for {
            None => Some(owner),
            Some(stands_for) => stands_for.get(owner.get()).copied(),
        }
    }
}

/// Loads of a table, addressed by the hosts of one level.
pub(super) struct Shifted<'a, L> {
    base: usize,
    loads: &'a L,
}

impl<'a, L: Loads> Shifted<'a, L> {
    pub(super) fn new(level: &Level, loads: &'a L) -> Self {
        Self {
            base: level.base,
            loads,
        }
    }
}

impl<L: Loads> Loads for Shifted<'_, L> {
    fn take(&self, host: usize) {
        self.loads.take(self.base + host);
    }
    fn give_back(&self, host: usize) {
        self.loads.give_back(self.base + host);
    }
    fn in_flight(&self, host: usize) -> u64 {
        self.loads.in_flight(self.base + host)
    }
    fn estimate(&self, host: usize) -> u64 {
        self.loads.estimate(self.base + host)
    }
    fn total(&self) -> u64 {
        self.loads.total()
    }
    fn share(&self, host: usize) -> Option<Share> {
        self.loads.share(self.base + host)
    }
    fn of_updates(&self, host: usize) -> u64 {
        self.loads.of_updates(self.base + host)
    }
    fn of_others(&self, host: usize) -> u64 {
        self.loads.of_others(self.base + host)
    }
    fn processes(&self) -> u64 {
        self.loads.processes()
    }
}

pub(super) fn all_serve(members: &[Member]) -> bool {
    members.iter().all(|member| member.state == State::Serving)
}

/// The hosts of a priority that are on its ring: all of them in a panic, else the healthy ones. If
/// these are all members and all serve, they are taken out of the list.
///
/// If only degraded hosts are left, they are on the ring. Envoy's own ring is empty then, and Envoy
/// answers 503.
pub(super) fn hosts_of(
    members: &mut Cow<'_, [Member]>,
    priority: u32,
    panics: bool,
) -> Vec<Member> {
    let of = |members: &[Member], takes: &dyn Fn(&Member) -> bool| -> Vec<Member> {
        let here = members.iter().filter(|member| member.priority == priority);
        here.filter(|member| takes(member)).cloned().collect()
    };
    let is_here = |member: &Member| member.priority == priority;
    let mut hosts = if all_serve(members) && members.iter().all(is_here) {
        std::mem::take(members).into_owned()
    } else if panics {
        of(members, &|_| true)
    } else {
        of(members, &|member| member.state == State::Serving)
    };
    if hosts.is_empty() {
        hosts = of(members, &|member| member.state == State::Degraded);
    }
    // A locality with weight 0 gets no requests. The other localities are placed one after another.
    hosts.retain(|host| host.locality.is_none_or(|locality| locality.weight > 0));
    if hosts.iter().all(|host| host.locality.is_none()) {
        return hosts;
    }
    let at = |(place, host): (u32, &Member)| {
        let index = host.locality.map_or(0, |locality| locality.index);
        (u64::from(index), place)
    };
    let mut order: Vec<(u64, u32)> = (0..).zip(&hosts).map(at).collect();
    order.sort_unstable();
    let in_order = order.iter().filter_map(|(_, place)| {
        let place = usize::try_from(*place).ok()?;
        hosts.get(place).cloned()
    });
    in_order.collect()
}

/// The hosts in the form that the ring takes.
fn ring_hosts<'a>(hosts: &'a [Member], rule: &Rule) -> Vec<Host<'a>> {
    let shares = match rule.shape {
        Shape::Envoy { .. } | Shape::Maglev { .. } => shares(hosts),
        Shape::Fixed { .. } => Vec::new(),
    };
    let host = |(at, member): (usize, &'a Member)| Host {
        name: member.name(rule.identity),
        weight: member.effective_weight(),
        share: shares.get(at).copied(),
    };
    hosts.iter().enumerate().map(host).collect()
}

/// The shares of hosts whose localities have weights, as in `normalizeLocalityWeights` of Envoy's
/// `thread_aware_lb_impl.cc`, rounding included; empty if they have none. Hosts of a locality must
/// be neighbours. The share of a locality without any of these hosts goes to no host.
fn shares(hosts: &[Member]) -> Vec<f64> {
    let weight = |host: &Member| as_f64(host.effective_weight().get()) / as_f64(WEIGHT_UNIT);
    let mut shares = Vec::new();
    for locality in hosts.chunk_by(|a, b| index(a) == index(b)) {
        let sum: f64 = locality.iter().map(weight).sum();
        for host in locality {
            let Some(Locality {
                weight: part, all, ..
            }) = host.locality
            else {
                return Vec::new();
            };
            let part = f64::from(part) / as_f64(all);
            shares.push(weight(host) * part / sum);
        }
    }
    shares
}

fn index(member: &Member) -> Option<u32> {
    member.locality.map(|locality| locality.index)
}

/// For each host, the first host with the same address.
fn first_of_address(hosts: &[Member]) -> Box<[HostIndex]> {
    let addresses = Names::of(hosts.iter().map(|host| host.address.as_str()));
    let first = |host: &Member| addresses.first(&host.address).unwrap_or(0);
    let first = hosts.iter().map(|host| HostIndex::of_place(first(host)));
    first.collect()
}

/// The hosts that share their name, such as a `hash_key`, with a host of another address. Which of
/// their equal points comes first in Envoy's ring depends on an unstable sort (`ring_hash_lb.cc`).
/// In Envoy's table it depends on the hosts' positions in memory (`maglev_lb.cc`), and if such
/// hosts have unequal shares, the slots of all other hosts depend on that, too.
fn ambiguous(
    hosts: &[Member],
    ring_hosts: &[Host<'_>],
    rule: &Rule,
    repeats: bool,
) -> Option<Box<[bool]>> {
    let is_table = match rule.shape {
        Shape::Envoy { .. } => false,
        Shape::Maglev { .. } => true,
        // Envoy has no such shape.
        Shape::Fixed { .. } => return None,
    };
    let has_keys = hosts.iter().any(|host| host.hash_key.is_some());
    let names = || ring_hosts.iter().map(|host| host.name);
    if !(has_keys || is_table && repeats) || !may_repeat(names()) {
        return None;
    }
    let names = Names::of(names());
    let differs = |at: usize, differ: &dyn Fn(usize, usize) -> bool| {
        let name = ring_hosts.get(at).map_or("", |host| host.name);
        names.places(name).any(|other| differ(at, other))
    };
    let by_part = |a: usize, b: usize| ring_hosts.get(a) != ring_hosts.get(b);
    let by_address = |a: usize, b: usize| {
        let address = |at: usize| hosts.get(at).map(|host| &host.address);
        address(a) != address(b)
    };
    let all = is_table && (0..hosts.len()).any(|at| differs(at, &by_part));
    let each = (0..hosts.len()).map(|at| all || differs(at, &by_address));
    let each: Box<[bool]> = each.collect();
    each.contains(&true).then_some(each)
}

/// The weights for the bound. An address that occurs twice has the sum of its entries' weights, and
/// no request is sent to a host that a header cannot name.
fn weights(hosts: &[Member], stands_for: Option<&[HostIndex]>, percent: u32) -> Weights {
    let own = hosts.iter().map(Member::effective_weight);
    let mut each: Vec<u64> = own.map(NonZeroU64::get).collect();
    let mut barred: Vec<bool> = hosts.iter().map(|host| !host.steerable).collect();
    for (at, first) in stands_for.unwrap_or_default().iter().enumerate() {
        if first.get() == at {
            continue;
        }
        let more = each.get_mut(at).map_or(0, std::mem::take);
        if let Some(weight) = each.get_mut(first.get()) {
            *weight = weight.saturating_add(more);
        }
        if let Some(barred) = barred.get_mut(at) {
            *barred = true;
        }
    }
    let weights: Weights = each.into_iter().collect();
    weights.without(barred).of_percent(percent)
}
