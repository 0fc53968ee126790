//! The owner of a key and the loads → the candidates of a request and the reason for the first.
//!
//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, arXiv:1608.01350): an
//! instance takes a request while it is under its share of the whole load times the balance
//! factor. Past a full owner a key does not go to the ring neighbour, which would then fill up and
//! push its own keys on, but jumps to places of the ring that depend on the key alone (arXiv:1908.08762):
//! the same key overflows the same way, and different keys spread.
//!
//! A place is taken first and checked afterwards, and given back if it was one too many. So two
//! workers that choose at once cannot both get the last place, and the bound is a true one.

mod bound;
mod candidates;

pub use bound::Bound;
pub use candidates::{CANDIDATES_MAX, Candidates};

use crate::hash::mix;
use crate::ring::{HostIndex, Ring};

/// Places of the key's own sequence that are looked up. At the default factor a fifth of the
/// capacity is free, so that 64 of them are all full for 1 key in 10^6.
const JUMPS_MAX: u64 = 64;
/// Instances that are really asked for a place; each asking costs the filter calls into Envoy.
const TRIED_MAX: usize = 24;
/// Of them, these many are found by estimate once the key's own sequence is used up.
const BY_ESTIMATE: usize = 4;

/// Requests in flight, as the chooser sees and moves them: of this process and the rest of the
/// fleet. Instances are numbered as the hosts of the ring.
pub trait Loads {
    /// Counts this request for an instance.
    fn take(&self, host: usize);
    /// Takes that back.
    fn give_back(&self, host: usize);
    /// In flight on an instance now, with what was taken.
    fn in_flight(&self, host: usize) -> u64;
    /// The same without asking anybody: it may be a little old, but costs nothing.
    fn estimate(&self, host: usize) -> u64;
    /// In flight on the service, without the request that is being placed.
    fn total(&self) -> u64;
}

/// The weights of the hosts of a ring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    each: Vec<u64>,
    sum: u64,
}

impl FromIterator<u64> for Weights {
    fn from_iter<I: IntoIterator<Item = u64>>(weights: I) -> Self {
        let each: Vec<u64> = weights.into_iter().collect();
        let sum = each.iter().fold(0u64, |sum, w| sum.saturating_add(*w));
        Self { each, sum }
    }
}

impl Weights {
    fn hosts(&self) -> usize {
        self.each.len()
    }

    /// The weight of one, and of all.
    pub fn of(&self, host: usize) -> (u64, u64) {
        (self.each.get(host).copied().unwrap_or(0), self.sum)
    }

    /// Load for its weight, in an integer that compares well.
    fn relative(&self, host: usize, in_flight: u64) -> u128 {
        let (weight, sum) = self.of(host);
        u128::from(in_flight) * u128::from(sum) / u128::from(weight.max(1))
    }
}

/// Why the first candidate is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It owns the key.
    Primary,
    /// The owner is at its capacity; this one has room.
    Overflow,
    /// All are at their capacity; this one is the least loaded for its weight.
    LeastLoaded,
    /// The owner takes no requests now; this one owns the key until it does again.
    Ejected,
    /// Nobody has it: all are at their hard cap.
    Full,
}

impl Reason {
    /// As callers and operators read it.
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

/// What was decided for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Where it may go. A place is taken on the first of them, unless the reason is `Full`.
    pub candidates: Candidates,
    /// Why the first of them.
    pub reason: Reason,
}

/// Chooses up to `wanted` candidates for a key, and takes a place on the first. `None` if the ring
/// is empty. Without a bound the first is always the owner. Allocates nothing, and asks a bounded
/// number of instances.
pub fn choose(
    ring: &Ring,
    hash: u64,
    wanted: usize,
    bound: &Bound,
    weights: &Weights,
    loads: &impl Loads,
) -> Option<Choice> {
    let owner = ring.owner(hash)?;
    let mut search = Search {
        bound,
        weights,
        loads,
        full: Full::default(),
    };
    let (first, reason) = if search.takes(owner) {
        (owner, Reason::Primary)
    } else {
        search.beyond(ring, hash, owner)
    };
    let mut candidates = Candidates::new(first, wanted.min(weights.hosts()));
    // Retries go where the key's own sequence goes, starting with the owner; those that are full
    // come last.
    let sequence = || std::iter::once(owner).chain(jumps(ring, hash));
    candidates.fill(sequence().filter(|host| search.full.load_of(*host).is_none()));
    candidates.fill(sequence());
    Some(Choice { candidates, reason })
}

/// The key's own sequence of places after the owner's.
fn jumps(ring: &Ring, hash: u64) -> impl Iterator<Item = HostIndex> + '_ {
    // 2^64 / golden ratio: successive multiples stay far apart.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    (1..=JUMPS_MAX)
        .filter_map(move |jump| ring.owner(mix(hash.wrapping_add(STEP.wrapping_mul(jump)))))
}

struct Search<'a, L> {
    bound: &'a Bound,
    weights: &'a Weights,
    loads: &'a L,
    full: Full,
}

impl<L: Loads> Search<'_, L> {
    /// Takes a place on an instance if it has one, and remembers it if it is full.
    fn takes(&mut self, host: HostIndex) -> bool {
        let at = host.get();
        self.loads.take(at);
        if self.bound.is_off() {
            return true;
        }
        let in_flight = self.loads.in_flight(at);
        let total = || self.loads.total();
        if self.bound.admits(in_flight, total, self.weights.of(at)) {
            return true;
        }
        self.loads.give_back(at);
        self.full.push(host, in_flight.saturating_sub(1));
        false
    }

    /// The instance for a key whose owner is full.
    fn beyond(&mut self, ring: &Ring, hash: u64, owner: HostIndex) -> (HostIndex, Reason) {
        let hosts = self.weights.hosts();
        for host in jumps(ring, hash) {
            if self.full.len() >= hosts.min(TRIED_MAX - BY_ESTIMATE) {
                break;
            }
            if self.full.load_of(host).is_none() && self.takes(host) {
                return (host, Reason::Overflow);
            }
        }
        for _ in 0..BY_ESTIMATE {
            match self.emptiest_untried() {
                Some(host) if self.takes(host) => return (host, Reason::Overflow),
                Some(_) => {}
                None => break,
            }
        }
        let least = self
            .full
            .iter()
            .min_by_key(|(host, load)| {
                let relative = self.weights.relative(host.get(), *load);
                (self.at_cap(*load), relative)
            })
            .map_or(owner, |(host, _)| host);
        self.loads.take(least.get());
        if self.bound.is_over_cap(self.loads.in_flight(least.get())) {
            self.loads.give_back(least.get());
            return (owner, Reason::Full);
        }
        (least, Reason::LeastLoaded)
    }

    fn at_cap(&self, in_flight: u64) -> bool {
        self.bound.is_over_cap(in_flight.saturating_add(1))
    }

    /// By estimate, so that a scan of a thousand instances is a thousand reads of memory: one with
    /// room before one without, then the least loaded for its weight.
    fn emptiest_untried(&self) -> Option<HostIndex> {
        let total = self.loads.total();
        HostIndex::all(self.weights.hosts())
            .filter(|host| self.full.load_of(*host).is_none())
            .min_by_key(|host| {
                let (at, estimate) = (host.get(), self.loads.estimate(host.get()));
                let with_this = estimate.saturating_add(1);
                let has_room = self.bound.admits(with_this, || total, self.weights.of(at));
                (
                    !has_room,
                    self.at_cap(estimate),
                    self.weights.relative(at, estimate),
                )
            })
    }
}

/// Instances that were asked and had no place, with what they carried.
#[derive(Default)]
struct Full {
    list: [Option<(HostIndex, u64)>; TRIED_MAX],
    len: usize,
}

impl Full {
    fn push(&mut self, host: HostIndex, in_flight: u64) {
        if let Some(place) = self.list.get_mut(self.len) {
            *place = Some((host, in_flight));
            self.len += 1;
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn iter(&self) -> impl Iterator<Item = (HostIndex, u64)> + '_ {
        self.list.iter().map_while(|tried| *tried)
    }

    fn load_of(&self, host: HostIndex) -> Option<u64> {
        self.iter()
            .find_map(|(tried, load)| (tried == host).then_some(load))
    }
}

#[cfg(test)]
mod tests;
