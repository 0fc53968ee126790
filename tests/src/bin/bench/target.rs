//! A bench target of this crate, which prints Markdown.

use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;
use unitring_tests::programs;

/// Runs it with these arguments and returns what it printed.
pub(crate) async fn output(name: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new("cargo")
        .args([
            "bench",
            "--quiet",
            "--package",
            "unitring-tests",
            "--bench",
            name,
            "--",
        ])
        .args(arguments)
        .current_dir(programs::root()?)
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(output.status.success(), "cargo bench: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
