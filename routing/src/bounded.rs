//! The owner of a key and the loads → the candidates of a request and the reason for the first.
//!
//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, arXiv:1608.01350): an
//! instance takes a request while it is under its share of the whole load times the balance
//! factor. Past a full owner a key does not go to the ring neighbour, which would then fill up and
//! push its own keys on, but jumps to places of the ring that depend on the key alone (arXiv:1908.08762):
//! the same key overflows the same way, and different keys spread.

use std::num::NonZeroU32;

use crate::hash::mix;
use crate::ring::{HostIndex, Ring};

/// The most candidates of one request.
pub const CANDIDATES_MAX: usize = 8;

/// Jumps tried before every instance is looked at. With a bound in force at least a fifth of the
/// capacity is free at the default factor, so this many jumps all find a full one in 1 of 10^6.
const JUMPS_MAX: u64 = 64;

/// In-flight requests, as the chooser sees them: of this process plus the rest of the fleet.
pub trait Loads {
    /// Of one instance.
    fn in_flight(&self, host: HostIndex) -> u64;
    /// Of the whole service.
    fn total(&self) -> u64;
    /// Its share of the service: its weight and the sum of all weights.
    fn weight(&self, host: HostIndex) -> (NonZeroU32, u64);
    /// How many instances there are; they are `0..hosts` of the ring's slice.
    fn hosts(&self) -> usize;
}

/// How much an instance may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Percent over the fair share, at least 100.
    pub balance_factor: NonZeroU32,
    /// Every instance may take as many, however little traffic there is.
    pub min_capacity: u64,
}

impl Bound {
    /// `max(min_capacity, ceil(factor/100 · (total + 1) · weight/weights))`: the `+ 1` is the
    /// request that is being placed.
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use unitring_routing::bounded::Bound;
    /// let bound = Bound { balance_factor: NonZeroU32::new(125).unwrap(), min_capacity: 0 };
    /// // 79 in flight over four equal instances: 1.25 · 80 / 4.
    /// assert_eq!(bound.capacity(79, (NonZeroU32::MIN, 4)), 25);
    /// ```
    pub fn capacity(&self, total: u64, (weight, weights): (NonZeroU32, u64)) -> u64 {
        let load = u128::from(self.balance_factor.get())
            * (u128::from(total) + 1)
            * u128::from(weight.get());
        let share = load.div_ceil(100 * u128::from(weights.max(1)));
        u64::try_from(share)
            .unwrap_or(u64::MAX)
            .max(self.min_capacity)
    }

    /// Whether one more request fits. Under `min_capacity` the total need not be known, which
    /// spares the filter a call into Envoy.
    fn has_room(&self, loads: &impl Loads, host: HostIndex) -> bool {
        let in_flight = loads.in_flight(host);
        in_flight < self.min_capacity
            || in_flight < self.capacity(loads.total(), loads.weight(host))
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
}

impl Reason {
    /// As callers and operators read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Primary => "primary",
            Reason::Overflow => "overflow",
            Reason::LeastLoaded => "least-loaded",
            Reason::Ejected => "ejected",
        }
    }
}

/// Distinct instances in the order in which they may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidates {
    list: [HostIndex; CANDIDATES_MAX],
    len: usize,
}

impl Candidates {
    fn new(first: HostIndex) -> Self {
        Self {
            list: [first; CANDIDATES_MAX],
            len: 1,
        }
    }

    fn push(&mut self, host: HostIndex) {
        if self.as_slice().contains(&host) {
            return;
        }
        if let Some(place) = self.list.get_mut(self.len) {
            *place = host;
            self.len += 1;
        }
    }

    /// One or more.
    pub fn as_slice(&self) -> &[HostIndex] {
        self.list.get(..self.len).unwrap_or_default()
    }

    /// The one to try first.
    pub fn first(&self) -> HostIndex {
        let [first, ..] = self.list;
        first
    }
}

/// What was decided for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Where it may go.
    pub candidates: Candidates,
    /// Why the first of them.
    pub reason: Reason,
}

/// Chooses up to `wanted` candidates for a key. `None` if the ring is empty. Without a bound the
/// first is always the owner. Allocates nothing.
pub fn choose(
    ring: &Ring,
    hash: u64,
    wanted: usize,
    bound: Option<&Bound>,
    loads: &impl Loads,
) -> Option<Choice> {
    let owner = ring.owner(hash)?;
    let (first, reason) = match bound {
        Some(bound) if !bound.has_room(loads, owner) => beyond(ring, hash, owner, bound, loads),
        _ => (owner, Reason::Primary),
    };
    let mut candidates = Candidates::new(first);
    let wanted = wanted.min(loads.hosts()).min(CANDIDATES_MAX);
    // Retries go where the key's own sequence goes, starting with the owner.
    let mut jumps = jumps(ring, hash);
    candidates.push(owner);
    while candidates.len < wanted
        && let Some(host) = jumps.next()
    {
        candidates.push(host);
    }
    candidates.len = candidates.len.min(wanted.max(1));
    Some(Choice { candidates, reason })
}

/// The key's own sequence of places after the owner's.
fn jumps(ring: &Ring, hash: u64) -> impl Iterator<Item = HostIndex> + '_ {
    // 2^64 / golden ratio: successive multiples stay far apart.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    (1..=JUMPS_MAX)
        .filter_map(move |jump| ring.owner(mix(hash.wrapping_add(STEP.wrapping_mul(jump)))))
}

/// The instance for a key whose owner is full.
fn beyond(
    ring: &Ring,
    hash: u64,
    owner: HostIndex,
    bound: &Bound,
    loads: &impl Loads,
) -> (HostIndex, Reason) {
    if let Some(host) = jumps(ring, hash).find(|host| bound.has_room(loads, *host)) {
        return (host, Reason::Overflow);
    }
    let least = HostIndex::all(loads.hosts())
        .min_by_key(|host| per_weight(loads.in_flight(*host), loads.weight(*host)))
        .unwrap_or(owner);
    if bound.has_room(loads, least) {
        return (least, Reason::Overflow);
    }
    (least, Reason::LeastLoaded)
}

/// Load for its weight, in an integer that compares well.
fn per_weight(in_flight: u64, (weight, weights): (NonZeroU32, u64)) -> u128 {
    u128::from(in_flight) * u128::from(weights) / u128::from(weight.get())
}

#[cfg(test)]
mod tests;
