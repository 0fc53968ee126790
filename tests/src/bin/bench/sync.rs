//! Lag, rate, and what follows a cut of two synced units: the tables of `tests/benches/sync/`.

use anyhow::Result;

use super::target;

/// Runs it and returns the tables.
pub(crate) async fn measure() -> Result<String> {
    target::output("sync", &[]).await
}
