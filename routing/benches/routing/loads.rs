//! Loads that make some instances full, and the choice under a bound that finds them full.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use unitring_routing::bounded::{Bound, Loads, Reason};
use unitring_routing::hash::xxh64;
use unitring_routing::ring::HostIndex;
use unitring_routing::table::Table;

/// The hard cap of an instance.
const CAP: u16 = 5_000;

/// Gauges like the filter's: atomics of the process.
pub(crate) struct Gauges {
    each: Vec<AtomicU64>,
    total: AtomicU64,
}

impl Gauges {
    /// Nothing is in flight: the owner takes every key.
    pub(crate) fn no_load(size: usize) -> Self {
        Self::of((0..size).map(|_| 0))
    }

    /// The first instance is over its capacity, the others are far below it: keys of the first move
    /// on, and the next instance has room.
    pub(crate) fn first_full(size: usize) -> Self {
        Self::of((0..size).map(|n| if n == 0 { 4_000 } else { 10 }))
    }

    /// A fifth of the instances are over their capacity.
    pub(crate) fn fifth_full(size: usize) -> Self {
        Self::of((0..size).map(|n| if n.is_multiple_of(5) { 60 } else { 10 }))
    }

    /// All instances are full, so that the choice looks at each of them.
    pub(crate) fn all_full(size: usize) -> Self {
        Self::of((0..size).map(|_| u64::from(CAP) * 2))
    }

    fn of(loads: impl Iterator<Item = u64>) -> Self {
        let each: Vec<u64> = loads.collect();
        Self {
            total: each.iter().sum::<u64>().into(),
            each: each.into_iter().map(AtomicU64::new).collect(),
        }
    }

    fn at<T: Default>(&self, host: usize, what: impl Fn(&AtomicU64) -> T) -> T {
        self.each.get(host).map(what).unwrap_or_default()
    }
}

impl Loads for Gauges {
    fn take(&self, host: usize) {
        self.at(host, |gauge| gauge.fetch_add(1, Relaxed));
    }
    fn give_back(&self, host: usize) {
        self.at(host, |gauge| gauge.fetch_sub(1, Relaxed));
    }
    fn in_flight(&self, host: usize) -> u64 {
        self.at(host, |gauge| gauge.load(Relaxed))
    }
    fn estimate(&self, host: usize) -> u64 {
        self.in_flight(host)
    }
    fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }
}

/// The whole choice for one key. The place that it takes is given back, so that the next choice
/// finds the same loads.
pub(crate) fn choose(table: &Table, gauges: &Gauges, key: &[u8]) -> Option<(HostIndex, Reason)> {
    let bound = Bound {
        balance_factor: 125.try_into().ok(),
        min_capacity: 1,
        max_in_flight: u64::from(CAP).try_into().ok(),
    };
    let choice = table.choose(xxh64(key), 3, &bound, gauges).ok()?;
    let first = choice.candidates.first();
    if choice.reason != Reason::Full {
        gauges.give_back(first.get());
    }
    Some((first, choice.reason))
}
