//! The cost of a choice, and of a change of membership. `make bench AREA=routing` writes the
//! figures into `docs/placement.md`.
//!
//! That step parses names of groups and functions: `<group>/<system>/<instances>`.

mod build;
mod changes;
mod fleet;
mod hash;
mod keys;
mod loads;
mod lookup;
mod peers;
mod select;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// Some eighty figures in two minutes. Only ratios matter, and their medians settle long before
/// criterion's own five seconds for each.
fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .nresamples(1_000)
        .without_plots()
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = hash::hash, lookup::lookup, select::select, build::build, changes::add, changes::remove
}
criterion_main!(benches);
