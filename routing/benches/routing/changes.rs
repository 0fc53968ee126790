//! One instance comes: a merge of its points, against a ring that is made anew and against a tree.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion};
use unitring_routing::ring::Ring;

use crate::choices::{pingora, points, ring, tree};
use crate::fleet::{FIXED, SIZES, addresses, hosts};

/// Each makes the ring of all instances where the last one is new. Only the tree changes in place; a
/// ring that readers go on using while it changes, as the others are, would be a copy of the tree.
pub(crate) fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("add");
    group.sample_size(20);
    for size in SIZES {
        let all = addresses(size);
        let Some((last, old)) = all.split_last() else {
            continue;
        };
        let (before, after) = (hosts(old), hosts(&all));
        let small = ring(old, FIXED);
        group.bench_function(BenchmarkId::new("unitring-merge", size), |b| {
            b.iter(|| small.update(black_box(&before), &after, FIXED));
        });
        group.bench_function(BenchmarkId::new("unitring-rebuild", size), |b| {
            b.iter(|| Ring::build(black_box(&after), FIXED));
        });
        group.bench_function(BenchmarkId::new("pingora-ketama-rebuild", size), |b| {
            b.iter(|| pingora(black_box(&all)));
        });
        let last = (u32::try_from(size - 1).unwrap_or(0), last);
        let small = tree(old);
        group.bench_function(BenchmarkId::new("btreemap-insert", size), |b| {
            b.iter_batched_ref(
                || small.clone(),
                |tree| tree.extend(points(black_box(last))),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("btreemap-copy-and-insert", size), |b| {
            b.iter(|| {
                let mut tree = black_box(&small).clone();
                tree.extend(points(last));
                tree
            });
        });
    }
    group.finish();
}
