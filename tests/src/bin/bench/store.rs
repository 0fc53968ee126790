//! Writes of the Redis store against a bare connection: the table of `tests/benches/store.rs`.

use anyhow::Result;

use super::target;

/// Runs the benchmark and returns its table.
pub(crate) async fn measure() -> Result<String> {
    let table = target::output("store", &[]).await?;
    Ok(format!(
        "{table}\nMedians of seven pairs of runs, one of each after the other, in alternating order. The bare \
         connection sends the same commands, made before the clock starts, without waiting for answers.\n"
    ))
}
