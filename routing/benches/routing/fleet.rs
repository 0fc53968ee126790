//! The instances, the keys and the loads that are measured with.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use unitring_routing::bounded::Loads;
use unitring_routing::hash::HashFunction;
use unitring_routing::membership::{Member, State, Warmth};
use unitring_routing::ring::{Host, POINTS_MAX, Shape, WEIGHT_UNIT};

/// Numbers of instances.
pub(crate) const SIZES: [usize; 3] = [4, 100, 1_000];
/// Points of each instance, where a system lets one say.
pub(crate) const POINTS_EACH: u32 = 256;

/// The same number of points for each instance.
pub(crate) const FIXED: Shape = Shape::Fixed {
    hash: HashFunction::XxHash64,
    virtual_nodes: match NonZeroU32::new(POINTS_EACH) {
        Some(points) => points,
        None => NonZeroU32::MIN,
    },
    max_size: POINTS_MAX,
};
/// Envoy's default.
pub(crate) const ENVOY: Shape = Shape::Envoy {
    hash: HashFunction::XxHash64,
    min_size: 1_024,
    max_size: POINTS_MAX,
};
/// Envoy's other algorithm.
pub(crate) const MAGLEV: Shape = Shape::Maglev {
    table_size: match NonZeroU32::new(65_537) {
        Some(size) => size,
        None => NonZeroU32::MIN,
    },
};

/// Addresses of so many instances.
pub(crate) fn addresses(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("10.0.{}.{}:8080", n / 250, n % 250 + 1))
        .collect()
}

/// They as hosts of a ring.
pub(crate) fn hosts(addresses: &[String]) -> Vec<Host<'_>> {
    let weight = NonZeroU64::new(WEIGHT_UNIT).unwrap_or(NonZeroU64::MIN);
    let host = |name| Host { name, weight };
    addresses.iter().map(String::as_str).map(host).collect()
}

/// They as members of a table.
pub(crate) fn members(addresses: &[String]) -> Vec<Member> {
    let member = |address: &String| Member {
        id: address.clone(),
        address: address.clone(),
        weight: NonZeroU32::MIN,
        warmth: Warmth::FULL,
        state: State::Serving,
    };
    addresses.iter().map(member).collect()
}

/// Ever new keys of 16 bytes, made where they are read from, so that no memory is measured but that
/// of the ring.
#[derive(Default)]
pub(crate) struct Keys {
    key: [u8; 16],
    made: u64,
}

impl Keys {
    pub(crate) fn next(&mut self) -> &[u8] {
        self.made += 1;
        self.key = u128::from(self.made).wrapping_mul(SPREAD).to_le_bytes();
        &self.key
    }
}

const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// Gauges as the filter's: atomics of the process.
pub(crate) struct Gauges {
    each: Vec<AtomicU64>,
    total: AtomicU64,
}

impl Gauges {
    /// Every instance carries so many.
    pub(crate) fn of(loads: impl Iterator<Item = u64>) -> Self {
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
