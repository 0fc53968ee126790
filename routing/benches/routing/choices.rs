//! A key → its owner, by several systems; and the whole choice under the bound.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use pingora_ketama::{Bucket, Continuum, Version};
use unitring_routing::bounded::{Bound, Loads as _, Reason};
use unitring_routing::hash::xxh64;
use unitring_routing::membership::Identity;
use unitring_routing::ring::{HostIndex, Ring, Shape};
use unitring_routing::table::{Rule, Table};

use crate::fleet::{
    ENVOY, FIXED, Gauges, Keys, MAGLEV, POINTS_EACH, SIZES, addresses, hosts, members,
};

/// The hash of the key and its owner on the ring, without a bound: what all systems do.
pub(crate) fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    let mut keys = Keys::default();
    for size in SIZES {
        let addresses = addresses(size);
        let ring = ring(&addresses, FIXED);
        group.bench_function(BenchmarkId::new("unitring", size), |b| {
            b.iter(|| ring.owner(xxh64(black_box(keys.next()))));
        });
        let tree = tree(&addresses);
        group.bench_function(BenchmarkId::new("btreemap", size), |b| {
            b.iter(|| {
                let hash = xxh64(black_box(keys.next()));
                let first = tree.range(hash..).next().or_else(|| tree.iter().next());
                first.map(|(_, host)| *host)
            });
        });
        let pingora = pingora(&addresses);
        group.bench_function(BenchmarkId::new("pingora-ketama", size), |b| {
            b.iter(|| pingora.node(black_box(keys.next())));
        });
    }
    group.finish();
}

/// The hash of the key, its three candidates under the bound, and the place taken and given back.
pub(crate) fn select(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select");
    let mut keys = Keys::default();
    for size in SIZES {
        let addresses = addresses(size);
        // 20 of 25 places taken; "busy" has a fifth of the instances at their capacity.
        let calm = || Gauges::of((0..size).map(|_| 20));
        let busy = || Gauges::of((0..size).map(|n| if n.is_multiple_of(5) { 60 } else { 10 }));
        // Nobody has a place, so that every instance is looked at.
        let full = || Gauges::of((0..size).map(|_| 10_000));
        for (name, shape, gauges) in [
            ("fixed", FIXED, calm()),
            ("envoy", ENVOY, calm()),
            ("maglev", MAGLEV, calm()),
            ("fixed-busy", FIXED, busy()),
            ("fixed-full", FIXED, full()),
        ] {
            let table = table(&addresses, shape);
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| choose(&table, &gauges, black_box(keys.next())));
            });
        }
    }
    group.finish();
}

fn choose(table: &Table, gauges: &Gauges, key: &[u8]) -> Option<HostIndex> {
    let bound = Bound {
        balance_factor: 125.try_into().ok(),
        min_capacity: 1,
        max_in_flight: 5_000.try_into().ok(),
    };
    let choice = table.choose(xxh64(key), 3, &bound, gauges)?;
    let first = choice.candidates.first();
    if choice.reason != Reason::Full {
        gauges.give_back(first.get());
    }
    Some(first)
}

pub(crate) fn ring(addresses: &[String], shape: Shape) -> Ring {
    Ring::build(&hosts(addresses), shape).unwrap_or_default()
}

fn table(addresses: &[String], shape: Shape) -> Table {
    let rule = Rule {
        shape,
        identity: Identity::Address,
    };
    Table::build(&members(addresses), rule).unwrap_or_else(|_| Table::empty(rule))
}

/// The points of [`FIXED`] in a tree.
pub(crate) fn tree(addresses: &[String]) -> BTreeMap<u64, u32> {
    let points = (0u32..).zip(addresses).flat_map(points);
    points.collect()
}

/// The points of one instance.
pub(crate) fn points((host, address): (u32, &String)) -> impl Iterator<Item = (u64, u32)> + '_ {
    (0..POINTS_EACH).map(move |n| (xxh64(format!("{address}_{n}").as_bytes()), host))
}

pub(crate) fn pingora(addresses: &[String]) -> Continuum {
    let buckets: Vec<Bucket> = addresses
        .iter()
        .filter_map(|address| address.parse().ok())
        .map(|address| Bucket::new(address, 1))
        .collect();
    let point_multiple = POINTS_EACH;
    Continuum::new_with_version(&buckets, Version::V2 { point_multiple })
}
