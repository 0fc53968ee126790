//! Lag, rate, and recovery after a cut of two synced units: the tables of `tests/benches/sync/`.

use anyhow::Result;

use super::target;

/// Runs the benchmark and returns its tables.
pub(crate) async fn measure() -> Result<String> {
    target::output("sync", &[]).await
}
