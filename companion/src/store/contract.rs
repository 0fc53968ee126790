//! What every store promises, as a suite. The embedded store runs it in this crate's own tests; a
//! test that brings a Redis runs it there (feature `contract-tests`).
//!
//! Each function wants empty stores, and panics on a broken promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod browse;
mod differential;
mod fleet;
mod leadership;
mod names;
mod passing;
mod records;

pub use browse::browse;
pub use differential::differential;
pub use fleet::{fleet, rest_is_the_sum, shared_fleet, shared_fleet_after_loss};
pub use leadership::leadership;
pub use names::{NAMES, names};
pub use passing::passing;
pub use records::{id, records};
