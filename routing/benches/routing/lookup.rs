//! A key → its owner, in several systems.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use unitring_routing::hash::xxh64;

use crate::fleet::{FIXED, SIZES, addresses, ring};
use crate::keys::Keys;
use crate::peers::{hashring, pingora, tree};

/// The hash of the key and its owner on the ring, without a bound: the part that all systems have.
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
        let hashring = hashring(&addresses);
        group.bench_function(BenchmarkId::new("hashring", size), |b| {
            b.iter(|| {
                hashring
                    .get(black_box(&keys.next()))
                    .map(|node| node.address)
            });
        });
        let pingora = pingora(&addresses);
        group.bench_function(BenchmarkId::new("pingora-ketama", size), |b| {
            b.iter(|| pingora.node(black_box(keys.next())));
        });
    }
    group.finish();
}
