//! A key → the whole choice under the bound, by algorithm and by which instances are full.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};

use crate::fleet::{ENVOY, FIXED, MAGLEV, SIZES, addresses, table};
use crate::keys::{Keys, OwnedKeys};
use crate::loads::{Gauges, choose};

/// The hash of the key, its three candidates under the bound, and a place taken and given back.
pub(crate) fn select(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select");
    let mut keys = Keys::default();
    for size in SIZES {
        let addresses = addresses(size);
        for (name, shape, gauges) in [
            ("fixed-no-load", FIXED, Gauges::no_load(size)),
            ("envoy-no-load", ENVOY, Gauges::no_load(size)),
            ("maglev-no-load", MAGLEV, Gauges::no_load(size)),
            ("fixed-fifth-full", FIXED, Gauges::fifth_full(size)),
            ("fixed-all-full", FIXED, Gauges::all_full(size)),
        ] {
            let table = table(&addresses, shape);
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| choose(&table, &gauges, black_box(keys.next())));
            });
        }
        let (table, gauges) = (table(&addresses, FIXED), Gauges::first_full(size));
        let mut keys = OwnedKeys::of_first(&table);
        group.bench_function(BenchmarkId::new("fixed-owner-full", size), |b| {
            b.iter(|| choose(&table, &gauges, black_box(keys.next())));
        });
    }
    group.finish();
}
