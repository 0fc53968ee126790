//! One instance comes or goes: a merge of its points, compared with a tree and with a peer that
//! sorts.
//!
//! It is the last instance of the list. Only the tree and `hashring` change in place; to let
//! readers go on using the old ring during a change, as unitring does, they must be copied.
//! `build.rs` measures what a new ring costs instead, and so what a change of `pingora-ketama`
//! costs.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion};

use crate::fleet::{FIXED, SIZES, addresses, hosts, ring};
use crate::peers::{hashring, points, tree, virtual_nodes};

/// Adds the last instance.
pub(crate) fn add(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("add");
    group.sample_size(10);
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
        let numbered = (u32::try_from(size - 1).unwrap_or(0), last);
        let small = tree(old);
        group.bench_function(BenchmarkId::new("btreemap-in-place", size), |b| {
            b.iter_batched_ref(
                || small.clone(),
                |tree| tree.extend(points(black_box(numbered))),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("btreemap-copy", size), |b| {
            b.iter(|| {
                let mut tree = black_box(&small).clone();
                tree.extend(points(numbered));
                tree
            });
        });
        let small = hashring(old);
        group.bench_function(BenchmarkId::new("hashring-in-place", size), |b| {
            b.iter_batched_ref(
                || small.clone(),
                |ring| ring.batch_add(virtual_nodes(black_box(last)).collect()),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Removes the last instance.
pub(crate) fn remove(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("remove");
    group.sample_size(10);
    for size in SIZES {
        let all = addresses(size);
        let Some((last, rest)) = all.split_last() else {
            continue;
        };
        let (before, after) = (hosts(&all), hosts(rest));
        let large = ring(&all, FIXED);
        group.bench_function(BenchmarkId::new("unitring-merge", size), |b| {
            b.iter(|| large.update(black_box(&before), &after, FIXED));
        });
        let numbered = (u32::try_from(size - 1).unwrap_or(0), last);
        let large = tree(&all);
        group.bench_function(BenchmarkId::new("btreemap-in-place", size), |b| {
            b.iter_batched_ref(
                || large.clone(),
                |tree| {
                    for (point, _) in points(black_box(numbered)) {
                        tree.remove(&point);
                    }
                },
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("btreemap-copy", size), |b| {
            b.iter(|| {
                let mut tree = black_box(&large).clone();
                for (point, _) in points(numbered) {
                    tree.remove(&point);
                }
                tree
            });
        });
        let large = hashring(&all);
        group.bench_function(BenchmarkId::new("hashring-in-place", size), |b| {
            b.iter_batched_ref(
                || large.clone(),
                |ring| {
                    for node in virtual_nodes(black_box(last)) {
                        ring.remove(&node);
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}
