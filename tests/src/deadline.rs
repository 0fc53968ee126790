//! Waiting for a condition: never a fixed sleep, never without a limit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long any step may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Repeats the attempt until it succeeds. After [`PATIENCE`] it returns the last error.
///
/// # Errors
/// The error of the last attempt, and the awaited condition.
pub async fn until<T>(what: &str, attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    within(PATIENCE, what, attempt).await
}

/// Like [`until`], with another limit.
///
/// # Errors
/// The error of the last attempt, and the awaited condition.
pub async fn within<T>(
    limit: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("waited {limit:?} for: {what}"));
            }
            Err(_) => tokio::time::sleep(BETWEEN_TRIES).await,
        }
    }
}
