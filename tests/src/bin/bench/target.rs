//! The bench targets of the workspace, some of which print Markdown.

use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;
use unitring_tests::programs;

/// What runs the target of this name, of whichever package. All are built as one workspace, so that they share
/// what they depend on; `make bench` has done so already.
pub(crate) fn command(name: &str) -> Result<Command> {
    let mut command = Command::new("cargo");
    command
        .args(["bench", "--quiet", "--workspace", "--bench", name])
        .current_dir(programs::root()?);
    Ok(command)
}

/// Runs it with these arguments and returns what it printed.
pub(crate) async fn output(name: &str, arguments: &[&str]) -> Result<String> {
    // Not `output`, which would take what it says of its progress, and of its failure, too.
    let child = command(name)?
        .arg("--")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "cargo bench: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
