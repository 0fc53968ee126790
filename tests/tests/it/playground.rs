//! What `make run` prints can be done as printed, and what the README shows is what is printed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use unitring_tests::deadline::until;
use unitring_tests::process::Process;
use unitring_tests::programs;

const LAST_LINE: &str = "Ctrl-C stops all of it.";

async fn start(units: &str, folder: &Path) -> Result<(Process, Vec<String>)> {
    let mut command = Command::new(programs::built("playground")?);
    command.args(["--units", units]);
    let mut process = Process::start("playground", &mut command, folder)?;
    let mut printed = String::new();
    process
        .ready(async || {
            // `ready` ends early, with the log, if the playground does.
            printed = fs::read_to_string(folder.join("playground.log"))?;
            ensure!(printed.contains(LAST_LINE), "it has printed: {printed}");
            Ok(())
        })
        .await?;
    let commands = printed
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl "));
    let commands: Vec<String> = commands.map(str::to_owned).collect();
    ensure!(!commands.is_empty(), "no command in: {printed}");
    Ok((process, commands))
}

/// Runs a command as a person would; an HTTP error is an error.
fn run(command: &str) -> Result<String> {
    let command = command.replacen("curl ", "curl --silent --show-error --fail ", 1);
    let output = Command::new("sh").args(["-c", &command]).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}

/// Ctrl-C ends it with success, and so does everything that it started.
async fn interrupt(process: &mut Process) -> Result<()> {
    process.signal(Signal::INT)?;
    let status = until("the playground to end", async || {
        process.exited()?.context("it runs")
    })
    .await?;
    ensure!(status.success(), "{status}: {}", process.log_end());
    ensure!(
        process.log().trim_end().ends_with("stopped"),
        "{}",
        process.log_end()
    );
    Ok(())
}

#[tokio::test]
async fn every_command_that_the_playground_prints_works_as_printed() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut process, commands) = start("1", folder.path()).await?;
    for command in &commands {
        // Instances take their first keys once Envoy has checked them.
        until(command, async || run(command)).await?;
    }
    interrupt(&mut process).await
}

#[tokio::test]
async fn two_units_read_what_the_other_wrote_by_the_commands_that_are_printed() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut process, commands) = start("2", folder.path()).await?;
    for command in &commands {
        // The record is there a moment after it was written in the other unit.
        let answer = until(command, async || run(command)).await?;
        ensure!(!answer.is_empty(), "{command} answered nothing");
    }
    interrupt(&mut process).await
}

#[test]
fn the_request_of_the_readme_is_one_that_the_playground_prints() -> Result<()> {
    let root = programs::root()?;
    let readme = fs::read_to_string(root.join("README.md"))?;
    let place = fs::read_to_string(root.join("tests/src/bin/playground/place.rs"))?;
    let shown = readme.lines().find_map(|line| line.strip_prefix("$ curl "));
    let shown = shown.context("the README shows no request")?;
    let (request, address) = shown.rsplit_once(' ').context("no address")?;
    ensure!(
        place.contains(&format!("curl {request} ")),
        "{request} is not printed"
    );
    ensure!(
        address == "127.0.0.1:10000/",
        "{address} is not the default address"
    );
    Ok(())
}
