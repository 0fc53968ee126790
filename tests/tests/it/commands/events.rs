//! `unitring events`: the latest ones, those of a time, and those to come.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::instance::Instance;
use unitring_tests::process::Process;
use unitring_tests::programs;

/// The lines that the command prints with these arguments.
fn events(companion: &Companion, arguments: &[&str]) -> Result<Vec<String>> {
    let (is_done, text) = companion.ask(&[&["events"], arguments].concat())?;
    ensure!(is_done, "{text}");
    Ok(text.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn events_are_told_by_number_by_time_by_service_and_as_they_come() -> Result<()> {
    let companion = Settings::default().start().await?;
    ensure!(events(&companion, &[])? == ["no event is known"]);
    let instances = Instance::start_all(&["a", "b", "c"]).await?;
    for instance in &instances {
        companion.register(instance).await?;
    }
    for instance in ["a", "b", "c"] {
        companion.tells("added", instance, "").await?;
    }
    let lines = events(&companion, &[])?;
    ensure!(lines.len() == 3, "{lines:?}");
    ensure!(
        lines.iter().all(|line| line.contains("  orders  added ")),
        "{lines:?}"
    );
    let latest = events(&companion, &["--limit", "2"])?;
    ensure!(latest == lines[1..], "{latest:?}");
    ensure!(events(&companion, &["--service", "carts"])? == ["no event of carts is known"]);
    ensure!(events(&companion, &["--service", "carts", "--json"])?.is_empty());
    ensure!(events(&companion, &["--since", "1h"])? == lines);
    ensure!(events(&companion, &["--since", "0ms"])? == ["no event in this time"]);

    let lines = events(
        &companion,
        &["--since", "1h", "--json", "--service", "orders"],
    )?;
    let told: Result<Vec<Value>, _> = lines
        .iter()
        .map(|line| serde_json::from_str(line))
        .collect();
    let told: Vec<Value> = told?;
    ensure!(
        told.len() == 3 && told.iter().all(|event| event["kind"] == "added"),
        "{told:?}"
    );

    let folder = TempDir::new()?;
    let mut command = Command::new(programs::built("unitring")?);
    let url = format!("http://127.0.0.1:{}", companion.port);
    command
        .args(["events", "--json", "--limit", "1", "--follow"])
        .env("UNITRING_URL", url);
    let mut process = Process::start("events", &mut command, folder.path())?;
    let log = folder.path().join("events.log");
    let followed = async |count: usize| -> Result<Vec<Value>> {
        until(&format!("{count} events"), async || {
            let text = fs::read_to_string(&log)?;
            let events: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
            let events: Vec<Value> = events?;
            ensure!(events.len() == count, "{events:?}");
            Ok(events)
        })
        .await
    };
    followed(1).await?;
    let (is_done, text) =
        companion.ask(&["instance", "drain", "--service", "orders", "--id", "b"])?;
    ensure!(is_done, "{text}");
    let events = followed(2).await?;
    let last = events.last().context("none")?;
    ensure!(
        (&last["kind"], &last["instance"]) == (&json!("ejected"), &json!("b")),
        "{last}"
    );
    process.kill()
}

#[tokio::test]
async fn what_is_no_time_or_number_is_refused_and_a_closed_pipe_ends_with_1() -> Result<()> {
    let companion = Settings::default().start().await?;
    for wrong in [
        ["--since", "yesterday"],
        ["--limit", "0"],
        ["--limit", "1001"],
    ] {
        let (is_done, text) = companion.ask(&[&["events"], &wrong[..]].concat())?;
        ensure!(!is_done && text.contains(wrong[1]), "{text}");
    }
    let instance = Instance::start("a").await?;
    companion.register(&instance).await?;
    companion.tells("added", "a", "").await?;
    super::ends_with_its_reader(&format!("events --url http://127.0.0.1:{}", companion.port))
}
