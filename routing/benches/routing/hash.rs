//! Bytes → 64 bits: both hash functions of ring points, by length of the input.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use unitring_routing::hash::{HashFunction, xxh64};

/// As long as a number, a UUID, a long cookie.
const LENGTHS: [usize; 3] = [8, 36, 256];

/// Keys of requests are hashed by xxh64 alone; murmur2 is for points.
pub(crate) fn hash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash");
    for length in LENGTHS {
        let key = vec![b'k'; length];
        group.bench_function(BenchmarkId::new("xxh64", length), |b| {
            b.iter(|| xxh64(black_box(&key)));
        });
        group.bench_function(BenchmarkId::new("murmur2", length), |b| {
            b.iter(|| HashFunction::Murmur2.hash(black_box(&key)));
        });
    }
    group.finish();
}
