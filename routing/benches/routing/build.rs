//! Instances → a new ring, in several systems.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};

use crate::fleet::{FIXED, SIZES, addresses, ring};
use crate::peers::{hashring, pingora, tree};

/// [`crate::fleet::POINTS_EACH`] points for each instance.
pub(crate) fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build");
    group.sample_size(10);
    for size in SIZES {
        let addresses = addresses(size);
        group.bench_function(BenchmarkId::new("unitring", size), |b| {
            b.iter(|| ring(black_box(&addresses), FIXED));
        });
        group.bench_function(BenchmarkId::new("btreemap", size), |b| {
            b.iter(|| tree(black_box(&addresses)));
        });
        group.bench_function(BenchmarkId::new("hashring", size), |b| {
            b.iter(|| hashring(black_box(&addresses)));
        });
        group.bench_function(BenchmarkId::new("pingora-ketama", size), |b| {
            b.iter(|| pingora(black_box(&addresses)));
        });
    }
    group.finish();
}
