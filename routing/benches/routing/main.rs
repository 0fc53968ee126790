//! What a choice costs, and what a change of membership does; `make bench AREA=routing` writes the
//! figures into `docs/placement.md`.
//!
//! Names of groups and functions are read there: `<group>/<system>/<instances>`.

#![allow(missing_docs, reason = "criterion's macros define public functions")]

mod changes;
mod choices;
mod fleet;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, choices::lookup, choices::select, changes::changes);
criterion_main!(benches);
