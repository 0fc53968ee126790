//! The seed of a random test: a new one each time, or that of a run to repeat.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The number in this environment variable, or a new one each time. It is printed as the setting that
/// repeats the run; the test runner shows that if the test fails.
///
/// # Errors
/// The variable is not a number.
pub fn seed(variable: &str) -> Result<u64> {
    let seed = match env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}"))?,
        Err(_) => {
            let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
            u64::try_from(nanos % 1_000_000)?
        }
    };
    println!("{variable}={seed}");
    Ok(seed)
}
