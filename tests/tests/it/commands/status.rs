//! `unitring status` of instances that all fail, of large fleets, while it is watched, and in colours.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::process::Process;
use unitring_tests::programs;
use unitring_tests::report;
use unitring_tests::terminal::Terminal;

use super::{run, url};

/// Reports these instances of `orders`, which then count for minutes.
async fn reported(companion: &Companion, reporter: &str, instances: Vec<Value>) -> Result<()> {
    let services = vec![report::service("orders", instances)];
    let mut report = report::report(reporter, 1, services);
    report["interval_ms"] = json!(60_000);
    companion.report(&report).await?;
    Ok(())
}

fn instance(number: u64, is_healthy: bool) -> Value {
    let address = format!("10.0.{}.{}:80", number / 250, number % 250);
    let mut instance = report::instance(&format!("i{number}"), &address, number);
    instance["healthy"] = json!(is_healthy);
    instance
}

/// The first word of each row below this heading.
fn rows(shown: &str, heading: &str) -> Vec<String> {
    let lines = shown.lines().skip_while(|line| !line.starts_with(heading));
    let rows = lines
        .skip(1)
        .take_while(|line| line.contains("  ") && !line.starts_with("ENVOY "));
    let words = rows.filter_map(|line| line.split_whitespace().next());
    words.map(str::to_owned).collect()
}

#[tokio::test]
async fn with_all_instances_unhealthy_it_ends_with_1_and_says_so_first() -> Result<()> {
    let companion = Settings::default().start().await?;
    let instances = (0..4).map(|number| instance(number, false)).collect();
    reported(&companion, "edge-1", instances).await?;
    let (code, out, said) = run(&["status", "--url", &url(companion.port)], &[])?;
    ensure!(
        code == 1
            && out.starts_with("orders: 4 of 4 instances unhealthy: i0, i1, i2, i3\n")
            && out.contains("status     degraded, 1 problem\n"),
        "{code}: {out}{said}"
    );
    Ok(())
}

#[tokio::test]
async fn of_a_thousand_instances_and_two_hundred_envoys_the_worst_are_shown() -> Result<()> {
    let companion = Settings::default().start().await?;
    let instances: Vec<Value> = (0..1_000)
        .map(|number| instance(number, number != 7))
        .collect();
    reported(&companion, "edge-0", instances).await?;
    for number in 1..=200 {
        reported(
            &companion,
            &format!("edge-{number}"),
            vec![instance(8, true)],
        )
        .await?;
    }
    let status = ["status", "--url", &url(companion.port)];
    let (code, out, said) = run(&status, &[])?;
    ensure!(code == 1, "{code}: {out}{said}");
    let shown = rows(&out, "INSTANCE ");
    ensure!(shown.len() == 20 && shown[0] == "i7", "{out}");
    ensure!(
        out.contains("\nand 980 more instances: --all shows them\n"),
        "{out}"
    );
    ensure!(rows(&out, "ENVOY ").len() == 20, "{out}");
    ensure!(
        out.ends_with("\nand 181 more Envoys: --all shows them\n"),
        "{out}"
    );
    ensure!(out.lines().count() < 60, "{out}");

    let (code, out, _) = run(&[&status[..], &["--all"]].concat(), &[])?;
    ensure!(code == 1 && rows(&out, "INSTANCE ").len() == 1_000, "{out}");
    ensure!(rows(&out, "ENVOY ").len() == 201, "{out}");
    Ok(())
}

#[tokio::test]
async fn a_watched_status_repeats_and_outlives_its_companion() -> Result<()> {
    let mut companion = Settings::default().start().await?;
    let folder = TempDir::new()?;
    // Where these tests run in the background of a shell, they and what they start ignore Ctrl-C.
    let mut command = Command::new("env");
    let unitring = programs::unitring()?;
    for (variable, _) in unitring.get_envs() {
        command.env_remove(variable);
    }
    command
        .arg("--default-signal=INT")
        .arg(unitring.get_program())
        .args(["status", "--watch", "1", "--url", &url(companion.port)]);
    let mut process = Process::start("status", &mut command, folder.path())?;
    let log = folder.path().join("status.log");
    let shows = async |text: &str, more: usize| -> Result<usize> {
        until(&format!("{more} times {text:?}"), async || {
            let shown = fs::read_to_string(&log)?;
            let count = shown.matches(text).count();
            ensure!(count >= more, "{shown}");
            Ok(count)
        })
        .await
    };
    let before = shows("status     healthy\n", 2).await?;
    companion.kill()?;
    shows("connection refused", 2).await?;
    companion.restart().await?;
    shows("status     healthy\n", before + 2).await?;
    ensure!(process.exited()?.is_none());
    process.signal(Signal::INT)?;
    until("it to end", async || process.exited()?.context("it runs")).await?;
    Ok(())
}

/// On a terminal, with these variables.
fn on_terminal(companion: &Companion, variables: &[(&str, &str)]) -> Result<Terminal> {
    let mut command: Command = programs::unitring()?;
    command
        .args(["status", "--url", &url(companion.port)])
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .envs(variables.iter().copied());
    Terminal::start("status", &command, (24, 120))
}

#[tokio::test]
async fn colours_are_for_terminals_of_those_who_want_them() -> Result<()> {
    let companion = Settings::default().start().await?;
    let mut coloured = on_terminal(&companion, &[])?;
    coloured.shows("status     healthy").await?;
    coloured.has_colours().await?;

    let mut plain = on_terminal(&companion, &[("NO_COLOR", "1")])?;
    plain.shows("status     healthy").await?;
    plain.shows("sync       none").await?;
    ensure!(plain.colours().is_empty(), "{:?}", plain.colours());

    let piped = ["status", "--url", &url(companion.port)];
    let (code, out, _) = run(&piped, &[("TERM", "xterm-256color")])?;
    ensure!(code == 0 && !out.contains('\u{1b}'), "{out:?}");
    Ok(())
}
