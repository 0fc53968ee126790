//! Commands that cannot be undone ask on a terminal: "n" leaves all as it is, "y" and `--yes` do it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::instance::Instance;
use unitring_tests::programs;
use unitring_tests::report;
use unitring_tests::terminal::Terminal;
use unitring_tests::unit_group::{Brokers, UnitGroup};

use super::url;

/// Runs a command on a terminal, and types this once it asks; returns the exit code and what the screen shows.
async fn typed(
    companion: &Companion,
    arguments: &[&str],
    answer: Option<&str>,
) -> Result<(Option<i32>, String)> {
    let mut command = programs::unitring()?;
    command
        .args(arguments)
        .env("UNITRING_URL", url(companion.port))
        .env("TERM", "xterm");
    let mut terminal = Terminal::start("sure", &command, (24, 200))?;
    if let Some(answer) = answer {
        terminal.shows("? [y/N] ").await?;
        terminal.press(&format!("{answer}\n"))?;
    }
    let status = terminal.ends().await?;
    if status.code() == Some(1) {
        terminal.shows("nothing was done").await?;
    }
    Ok((status.code(), terminal.screen()))
}

/// A no, or anything else, does nothing.
async fn is_refused(companion: &Companion, arguments: &[&str]) -> Result<()> {
    for answer in ["n", "", "no", "x"] {
        let (code, screen) = typed(companion, arguments, Some(answer)).await?;
        ensure!(code == Some(1), "{answer:?}: {code:?}: {screen}");
    }
    Ok(())
}

async fn is_done(companion: &Companion, arguments: &[&str], answer: Option<&str>) -> Result<()> {
    let (code, screen) = typed(companion, arguments, answer).await?;
    ensure!(code == Some(0), "{code:?}: {screen}");
    ensure!(screen.contains("[y/N]") == answer.is_some(), "{screen}");
    Ok(())
}

#[tokio::test]
async fn an_instance_is_removed_by_who_is_sure() -> Result<()> {
    let companion = Settings::default().start().await?;
    let remove = ["instance", "remove", "--service", "orders", "--id", "a"];
    let is_there = |wanted: bool| -> Result<()> {
        let (_, text) = companion.ask(&["instance", "list", "--service", "orders"])?;
        ensure!(text.starts_with("a (") == wanted, "{text}");
        Ok(())
    };
    let instance = Instance::start("a").await?;
    companion.register(&instance).await?;
    is_refused(&companion, &remove).await?;
    is_there(true)?;
    is_done(&companion, &remove, Some("y")).await?;
    is_there(false)?;
    companion.register(&instance).await?;
    is_done(&companion, &[&remove[..], &["--yes"]].concat(), None).await?;
    is_there(false)
}

#[tokio::test]
async fn a_service_is_forgotten_by_who_is_sure() -> Result<()> {
    let companion = Settings::default().start().await?;
    let services = ["ordres", "catrs"].map(|name| {
        let instances = vec![report::instance("a", "10.0.0.1:80", 0)];
        report::service(name, instances)
    });
    let report = report::report("edge-1", 1, services.to_vec());
    companion.report(&report).await?;
    until("the Envoy to fall silent", async || {
        let (_, text) = companion.ask(&["service", "list"])?;
        ensure!(text == "no service is known\n", "{text}");
        Ok(())
    })
    .await?;
    is_refused(&companion, &["service", "forget", "ordres"]).await?;
    is_done(&companion, &["service", "forget", "ordres"], Some("yes")).await?;
    is_done(&companion, &["service", "forget", "catrs", "--yes"], None).await?;
    // The commands before have removed all data of them.
    for name in ["ordres", "catrs"] {
        let (is_done, text) = companion.ask(&["service", "forget", name])?;
        ensure!(!is_done && text.contains("not found"), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_removed_by_who_is_sure() -> Result<()> {
    let mut group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
    // A unit that runs is not added again.
    let mut north = group.members.pop().context("no north")?;
    ensure!(north.name == "north", "{}", north.name);
    north.companion.kill()?;
    let east = &group.member("east")?.companion;
    let is_removed = async |wanted: bool| {
        until("the state of the link", async || {
            let units: Value = east.get("/v1/units").await?;
            let state = &units["sync"]["links"]["north"]["state"];
            ensure!((state == "removed") == wanted, "{units}");
            Ok(())
        })
        .await
    };
    let remove = ["unit", "remove", "north"];
    is_refused(east, &remove).await?;
    is_removed(false).await?;
    is_done(east, &remove, Some("Y")).await?;
    is_removed(true).await?;
    is_done(east, &["unit", "add", "north"], None).await?;
    is_removed(false).await?;
    is_done(east, &[&remove[..], &["--yes"]].concat(), None).await?;
    is_removed(true).await
}
