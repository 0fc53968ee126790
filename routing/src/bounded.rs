//! The owner of a key and the loads → the candidates of a request and the reason for the first.
//!
//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, arXiv:1608.01350): an
//! instance takes a request while it is under its share of the total load times the balance factor.
//! If the owner is full, a key does not overflow to the ring neighbour, which would then fill up
//! and push its own keys on. It jumps to places of the ring that depend on the key alone
//! (arXiv:1908.08762): the same key always overflows the same way, and different keys spread.
//!
//! If several processes may fill an instance and know each other's loads with a delay, each keeps
//! to its part of the free capacity ([`Share`]).
//!
//! A request first takes a place, then checks the bound, and gives the place back if it was one too
//! many. So two workers that choose at the same time cannot both get the last place, and the bound
//! is strict.

mod bound;
mod candidates;
mod full;
mod share;
mod weights;

pub use bound::Bound;
pub use candidates::{CANDIDATES_MAX, Candidates};
pub use share::Share;
pub use weights::Weights;

use crate::hash::mix;
use crate::ring::{HostIndex, Ring};
use full::Full;

/// Places of the key's own sequence that are looked up. At the default factor a fifth of the
/// capacity is free, so 64 places are all full for 1 key in 10^6.
const JUMPS_MAX: u64 = 64;
/// Instances that are asked for a place; each costs the filter calls into Envoy. The least loaded
/// of them may be asked a second time.
pub const TRIED_MAX: usize = 24;
/// How many of them are found by estimate once the key's own sequence is used up.
const BY_ESTIMATE: usize = 4;

/// Requests in flight as the chooser reads and changes them: those of this process and of the rest
/// of the fleet. Instances are numbered as the hosts of the ring.
pub trait Loads {
    /// Counts this request on an instance.
    fn take(&self, host: usize);
    /// Reverts [`Loads::take`].
    fn give_back(&self, host: usize);
    /// In flight on an instance now, with what was taken.
    fn in_flight(&self, host: usize) -> u64;
    /// Like [`Loads::in_flight`] but from memory: possibly a little old, and cheap.
    fn estimate(&self, host: usize) -> u64;
    /// In flight on the service, without the request that is being placed.
    fn total(&self) -> u64;
    /// The part of [`Loads::in_flight`] that is no requests of this process, but what its data updates count as.
    /// No request is refused for it.
    fn of_updates(&self, _host: usize) -> u64 {
        0
    }
    /// This process's part of an instance's capacity, if other processes may take it, too.
    fn share(&self, _host: usize) -> Option<Share> {
        None
    }
    /// How many of the requests in flight on an instance come from the snapshot of the fleet.
    fn of_others(&self, _host: usize) -> u64 {
        0
    }
    /// How many processes the snapshot counts, this one included.
    fn processes(&self) -> u64 {
        1
    }
}

/// Why the first candidate is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It owns the key.
    Primary,
    /// The owner is at its capacity; this one has room.
    Overflow,
    /// All are at their capacity; this one is the least loaded for its weight.
    LeastLoaded,
    /// The owner takes no requests now; this one owns the key until the owner does again.
    Ejected,
    /// No instance takes the request: all are at their hard cap, and this process is at its fair
    /// part of each.
    Full,
}

impl Reason {
    /// The text for callers and operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Primary => "primary",
            Reason::Overflow => "overflow",
            Reason::LeastLoaded => "least-loaded",
            Reason::Ejected => "ejected",
            Reason::Full => "full",
        }
    }
}

/// The decision for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Where the request may go, in order. A place is taken on the first, unless the reason is
    /// `Full`.
    pub candidates: Candidates,
    /// Why the first candidate is first.
    pub reason: Reason,
}

/// Maps a hash to its owner: a ring, or a stand-in for one.
pub trait Owners {
    /// `None` if there is no owner.
    fn owner(&self, hash: u64) -> Option<HostIndex>;
}

impl Owners for Ring {
    #[inline]
    fn owner(&self, hash: u64) -> Option<HostIndex> {
        Ring::owner(self, hash)
    }
}

/// Chooses up to `wanted` candidates for a key, and takes a place on the first. `None` if the key
/// has no owner, or if requests cannot be sent to its owner. Without a bound the first is always
/// the owner. Allocates nothing, and asks a bounded number of instances.
pub fn choose(
    ring: &impl Owners,
    hash: u64,
    wanted: usize,
    bound: &Bound,
    weights: &Weights,
    loads: &impl Loads,
) -> Option<Choice> {
    let owner = ring.owner(hash)?;
    if !weights.can_use(owner.get()) {
        return None;
    }
    let jumps = Jumps {
        ring,
        hash,
        weights,
    };
    let mut search = Search {
        bound,
        weights,
        loads,
        full: Full::nobody(),
    };
    let (first, reason) = if search.takes(owner) {
        (owner, Reason::Primary)
    } else {
        search.beyond(&jumps, owner)
    };
    let candidates = match reason {
        Reason::Full => Candidates::new(first, 1),
        _ => search.candidates(&jumps, owner, first, wanted),
    };
    Some(Choice { candidates, reason })
}

/// A key's own sequence of places after its owner.
struct Jumps<'a, R> {
    ring: &'a R,
    hash: u64,
    weights: &'a Weights,
}

impl<R: Owners> Jumps<'_, R> {
    /// `None` if the step leads to an instance that requests cannot be sent to.
    #[inline]
    fn to(&self, jump: u64) -> Option<HostIndex> {
        // 2^64 / golden ratio: successive multiples stay far apart.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let place = mix(self.hash.wrapping_add(STEP.wrapping_mul(jump)));
        let host = self.ring.owner(place)?;
        self.weights.can_use(host.get()).then_some(host)
    }
}

struct Search<'a, L> {
    bound: &'a Bound,
    weights: &'a Weights,
    loads: &'a L,
    full: Full,
}

impl<L: Loads> Search<'_, L> {
    /// Takes a place on an instance if it has one, and remembers the instance if it is full.
    fn takes(&mut self, host: HostIndex) -> bool {
        let at = host.get();
        self.loads.take(at);
        if self.bound.is_off() {
            return true;
        }
        let in_flight = self.loads.in_flight(at);
        if self.admits(at, in_flight) && self.is_within_share(at, in_flight) {
            return true;
        }
        self.loads.give_back(at);
        self.full.push(host, in_flight.saturating_sub(1));
        false
    }

    fn admits(&self, host: usize, in_flight: u64) -> bool {
        if self.is_over_cap(host, in_flight) {
            return false;
        }
        let total = || self.loads.total();
        self.bound.admits(in_flight, total, self.weights.of(host))
    }

    /// Whether `in_flight`, with this request, is more than the cap allows this process on this
    /// instance. A snapshot of the fleet, which may be old or wrong, never takes a process's fair
    /// part of the cap away.
    #[inline]
    fn is_over_cap(&self, host: usize, in_flight: u64) -> bool {
        let cap = self.bound.cap();
        in_flight > cap && {
            let in_flight = in_flight.saturating_sub(self.loads.of_updates(host));
            let own = in_flight.saturating_sub(self.loads.of_others(host));
            let fair_part = (cap / self.loads.processes().max(1)).max(1);
            in_flight > cap && own > fair_part
        }
    }

    /// The first candidate and those of retries, in the key's own sequence past the owner if it is
    /// full. Full instances come last, and those at their hard cap not at all.
    #[inline]
    fn candidates(
        &self,
        jumps: &Jumps<'_, impl Owners>,
        owner: HostIndex,
        first: HostIndex,
        wanted: usize,
    ) -> Candidates {
        let mut candidates = Candidates::new(first, wanted.min(self.weights.usable()));
        if self.full.len() < self.weights.usable() {
            self.add(jumps, &mut candidates, |host| {
                host != first && !self.full.has(host)
            });
        }
        if !candidates.is_complete() {
            if !self.is_at_cap(owner) {
                candidates.push(owner);
            }
            self.add(jumps, &mut candidates, |host| self.full.has(host));
        }
        candidates
    }

    /// Adds those of the key's own sequence that will do, until the list is complete.
    #[inline]
    fn add(
        &self,
        jumps: &Jumps<'_, impl Owners>,
        candidates: &mut Candidates,
        will_do: impl Fn(HostIndex) -> bool,
    ) {
        for jump in 1..=JUMPS_MAX {
            if candidates.is_complete() {
                break;
            }
            match jumps.to(jump) {
                Some(host) if will_do(host) && !self.is_at_cap(host) => candidates.push(host),
                _ => {}
            }
        }
    }

    /// Whether an instance has no place left under the cap for a retry, which takes none.
    #[inline]
    fn is_at_cap(&self, host: HostIndex) -> bool {
        self.bound.max_in_flight.is_some() && {
            let in_flight = self.loads.estimate(host.get());
            self.is_over_cap(host.get(), in_flight.saturating_add(1))
        }
    }

    /// Whether this process leaves the others their part of the free capacity. Up to `min_capacity`
    /// nothing is divided: with low traffic, keys stay where they are.
    fn is_within_share(&self, host: usize, in_flight: u64) -> bool {
        in_flight <= self.bound.min_capacity || self.over_share(host, in_flight) == 0
    }

    /// By how much this process exceeds its part of an instance that has `in_flight` in total.
    fn over_share(&self, host: usize, in_flight: u64) -> u64 {
        let Some(share) = self.loads.share(host) else {
            return 0;
        };
        let weight = self.weights.of(host);
        let capacity = self.bound.capacity(self.loads.total(), weight);
        let own = in_flight.saturating_sub(share.rest);
        own.saturating_sub(share.allowance(capacity))
    }

    /// The order of full instances for the last resort. If capacity is divided, an instance that
    /// has places left for others comes first. Among these, the one with the least over this
    /// process's own part comes first, since by the snapshot alone all processes would choose the
    /// instance that looks emptiest.
    fn rank(&self, host: usize, in_flight: u64) -> impl Ord {
        let with_this = in_flight.saturating_add(1);
        let divides = self.loads.share(host).is_some();
        (
            self.is_over_cap(host, with_this),
            divides && !self.admits(host, with_this),
            self.weights
                .relative(host, self.over_share(host, with_this)),
            self.weights.relative(host, in_flight),
        )
    }

    /// The instance for a key whose owner is full.
    fn beyond(&mut self, jumps: &Jumps<'_, impl Owners>, owner: HostIndex) -> (HostIndex, Reason) {
        let hosts = self.weights.usable();
        for host in (1..=JUMPS_MAX).filter_map(|jump| jumps.to(jump)) {
            if self.full.len() >= hosts.min(TRIED_MAX - BY_ESTIMATE) {
                break;
            }
            if !self.full.has(host) && self.takes(host) {
                return (host, Reason::Overflow);
            }
        }
        for host in self.emptiest_untried().into_iter().flatten() {
            if self.takes(host) {
                return (host, Reason::Overflow);
            }
        }
        let least = self
            .full
            .iter()
            .min_by_key(|(host, load)| self.rank(host.get(), *load))
            .map_or(owner, |(host, _)| host);
        self.loads.take(least.get());
        let in_flight = self.loads.in_flight(least.get());
        if self.is_over_cap(least.get(), in_flight) {
            self.loads.give_back(least.get());
            return (owner, Reason::Full);
        }
        // The instance may have places that are left to others: better to take one of them than
        // none.
        let divides = self.loads.share(least.get()).is_some();
        let reason = match divides && self.admits(least.get(), in_flight) {
            true if least == owner => Reason::Primary,
            true => Reason::Overflow,
            false => Reason::LeastLoaded,
        };
        (least, reason)
    }

    /// The best instances that were not asked yet, by estimate, so that looking at a thousand
    /// instances costs a thousand reads of memory. Those with room come first, then the least
    /// loaded for their weight.
    fn emptiest_untried(&self) -> [Option<HostIndex>; BY_ESTIMATE] {
        let total = self.loads.total();
        let mut best = [None; BY_ESTIMATE];
        for host in HostIndex::all(self.weights.hosts()) {
            let (at, estimate) = (host.get(), self.loads.estimate(host.get()));
            let with_this = estimate.saturating_add(1);
            let over_cap = self.is_over_cap(at, with_this);
            let has_room = !over_cap
                && self.bound.admits(with_this, || total, self.weights.of(at))
                && self.is_within_share(at, with_this);
            let rank = (!has_room, over_cap, self.weights.relative(at, estimate));
            let is_better = |other: &Option<(_, _)>| other.is_none_or(|(other, _)| rank < other);
            // Most instances are not better than the worst of the best.
            let is_out = || self.full.has(host) || !self.weights.can_use(at);
            if !best.last().is_some_and(is_better) || is_out() {
                continue;
            }
            let mut next = Some((rank, host));
            for place in &mut best {
                if next.is_some_and(|(rank, _)| place.is_none_or(|(other, _)| rank < other)) {
                    std::mem::swap(place, &mut next);
                }
            }
        }
        best.map(|found| found.map(|(_, host)| host))
    }
}

#[cfg(test)]
mod tests;
