//! Writes of the Redis store against a bare connection: the table of `tests/benches/store.rs`.

use anyhow::{Result, ensure};
use tokio::process::Command;
use unitring_tests::programs;

/// Runs it and returns the table.
pub(crate) async fn measure() -> Result<String> {
    let output = Command::new("cargo")
        .args(["bench", "--package", "unitring-tests", "--bench", "store"])
        .current_dir(programs::root()?)
        .output()
        .await?;
    let text = String::from_utf8(output.stdout)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo bench: {}: {error}",
        output.status
    );
    let lines = text.lines().filter(|line| line.starts_with('|'));
    let table: String = lines.map(|line| format!("{line}\n")).collect();
    Ok(format!(
        "{table}\nMedians of seven pairs of runs, one of each after the other, in alternating order. The bare \
         connection sends the same commands, made before the clock starts, without waiting for answers.\n"
    ))
}
