//! The instances of the benchmarks, and their rings.

use std::num::{NonZeroU32, NonZeroU64};

use unitring_routing::hash::HashFunction;
use unitring_routing::membership::{Identity, Member};
use unitring_routing::ring::{Host, POINTS_MAX, Ring, Shape, WEIGHT_UNIT};
use unitring_routing::table::{Rule, Table};

/// Numbers of instances.
pub(crate) const SIZES: [usize; 3] = [4, 100, 1_000];
/// Points of each instance, in systems that let the caller choose.
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
/// Envoy's default fill.
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

/// Addresses of `count` instances.
pub(crate) fn addresses(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("10.0.{}.{}:8080", n / 250, n % 250 + 1))
        .collect()
}

/// The addresses as hosts of a ring.
pub(crate) fn hosts(addresses: &[String]) -> Vec<Host<'_>> {
    let weight = NonZeroU64::new(WEIGHT_UNIT).unwrap_or(NonZeroU64::MIN);
    let host = |name| Host::new(name, weight);
    addresses.iter().map(String::as_str).map(host).collect()
}

/// The addresses as members of a table.
pub(crate) fn members(addresses: &[String]) -> Vec<Member> {
    let member = |address: &String| Member::new(address, address);
    addresses.iter().map(member).collect()
}

/// The ring of these instances.
pub(crate) fn ring(addresses: &[String], shape: Shape) -> Ring {
    Ring::build(&hosts(addresses), shape).unwrap_or_default()
}

/// The table of these instances.
pub(crate) fn table(addresses: &[String], shape: Shape) -> Table {
    let rule = Rule::new(shape, Identity::Address);
    Table::build(&members(addresses), rule).unwrap_or_else(|_| Table::empty(rule))
}
