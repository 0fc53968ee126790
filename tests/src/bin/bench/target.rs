//! The bench targets of the workspace, some of which print Markdown.

use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;
use unitring_tests::programs;

/// The command that runs the target of this name, from any package. All targets are built as one
/// workspace, so that they share their dependencies; `make bench` has already built them.
pub(crate) fn command(name: &str) -> Result<Command> {
    let mut command = Command::new("cargo");
    command
        .args(["bench", "--quiet", "--workspace", "--bench", name])
        .current_dir(programs::root()?);
    Ok(command)
}

/// Runs the target with these arguments and returns its standard output.
pub(crate) async fn output(name: &str, arguments: &[&str]) -> Result<String> {
    // Not `output`, which would also capture its progress and error messages.
    let child = command(name)?
        .arg("--")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "cargo bench: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
