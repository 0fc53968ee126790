//! The filter's work at each interval outside of requests: it makes a report, and reads the answer.
//! `make bench AREA=protocol` writes the figures into `docs/benchmarks.md`.
//!
//! That step parses names of groups and functions: `<group>/<what>/<instances>`.

mod service;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use unitring_balancer::reporter::read_answer;

use service::{Reporting, answer};

/// Numbers of instances.
const SIZES: [usize; 3] = [4, 100, 1_000];

fn interval(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("interval");
    for size in SIZES {
        let Some(mut reporting) = Reporting::of(size) else {
            continue;
        };
        group.bench_function(BenchmarkId::new("report", size), |b| {
            b.iter(|| reporting.encoded());
        });
        let answer = answer(size);
        group.bench_function(BenchmarkId::new("snapshot", size), |b| {
            b.iter(|| read_answer(black_box(&answer)));
        });
    }
    group.finish();
}

fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .nresamples(1_000)
        .without_plots()
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = interval
}
criterion_main!(benches);
