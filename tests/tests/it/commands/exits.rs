//! The exit code of each command that asks a companion: with the companion there, with its store away, with another
//! server at its address, with none, and with a wrong command line.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::until;
use unitring_tests::redis::Redis;
use unitring_tests::site::Site;
use unitring_tests::{ports, programs};

use super::{run, url};

/// No companion answers.
pub(super) const UNREACHABLE: i32 = 2;
/// The command line is wrong.
pub(super) const USAGE: i32 = 64;

/// The commands in an order that makes sense, and the code with the companion there, and with its store away.
pub(super) const COMMANDS: [(&str, i32, i32); 32] = [
    ("status", 0, 1),
    ("status --json", 0, 1),
    ("locate --key ada", 0, 1),
    ("locate --key ada --service orders", 0, 1),
    ("locate --key ada --service none", 1, 1),
    ("data put --dataset d --key k --value v", 0, 1),
    ("data put --dataset d --key k --value v --create", 5, 1),
    ("data get --dataset d --key k", 0, 1),
    ("data get --dataset d --key none", 4, 1),
    ("data list --dataset d", 0, 1),
    ("data export --dataset d", 0, 1),
    ("data import --dataset d --file FILE", 0, 1),
    ("data delete --dataset d --key k --if-match 1.0@x", 5, 1),
    ("data delete --dataset d --key k", 0, 1),
    ("data delete --dataset d --key none", 4, 1),
    (
        "instance add --service s --id a --address 127.0.0.1:1",
        0,
        1,
    ),
    ("instance list --service s", 0, 1),
    ("instance drain --service s --id a", 0, 1),
    ("instance undrain --service s --id none", 1, 1),
    ("instance remove --service s --id a --yes", 0, 1),
    ("service list", 0, 1),
    ("service forget none --yes", 1, 1),
    ("unit list", 0, 1),
    ("unit remove west --yes", 1, 1),
    ("unit add west", 1, 1),
    ("unit agree", 0, 1),
    ("unit repair --recount", 0, 1),
    ("conflicts", 0, 1),
    ("events", 0, 1),
    ("store compact", 0, 1),
    ("top --frames 1 --interval 100ms", 0, 1),
    ("doctor --fail-on error", 0, 1),
];

/// Whether a command ends with this code at this address.
pub(super) fn ends(command: &str, file: &str, at: &str, code: i32) -> Result<()> {
    let arguments = command.split(' ').map(|word| match word {
        "FILE" => file,
        word => word,
    });
    let arguments: Vec<&str> = arguments.chain(["--url", at]).collect();
    let (ended, out, said) = run(&arguments, &[])?;
    ensure!(ended == code, "{command}: {ended}, not {code}: {out}{said}");
    // The author of a script needs to read why.
    let is_told = code == 0 || !said.is_empty() || !out.is_empty();
    ensure!(is_told, "{command} ended with {code} in silence");
    Ok(())
}

#[tokio::test]
async fn each_command_ends_as_the_page_says_whatever_is_at_its_address() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("records");
    std::fs::write(&file, json!({"key": "k", "text": "v"}).to_string())?;
    let file = file.display().to_string();

    let site = Site::start().await?;
    let there = url(site.companion.port);
    until(
        "the Envoy to have reported, and all to be well",
        async || {
            ends("locate --key ada", &file, &there, 0)?;
            ends("status", &file, &there, 0)
        },
    )
    .await?;
    let mut redis = Redis::start().await?;
    let degraded = Settings::on_redis(&redis).start().await?;
    degraded.is_ready().await?;
    redis.kill()?;
    let degraded = url(degraded.port);
    until("its companion to notice", async || {
        ends("service list", &file, &degraded, 1)
    })
    .await?;
    let nobody = url(ports::free()?);
    let foreign = [url(site.envoy.admin_port), url(site.envoy.port)];
    for (command, code, without_store) in COMMANDS {
        ends(command, &file, &there, code)?;
        ends(command, &file, &degraded, without_store)?;
        ends(command, &file, &nobody, UNREACHABLE)?;
        ends(&format!("{command} --nonsense"), &file, &there, USAGE)?;
        for server in &foreign {
            ends(command, &file, server, UNREACHABLE)?;
        }
    }
    Ok(())
}

#[test]
fn every_command_that_takes_the_address_of_a_companion_is_in_the_table() -> Result<()> {
    let page = std::fs::read_to_string(programs::root()?.join("docs/cli.md"))?;
    for part in page.split("\n## unitring ").skip(1) {
        let (name, text) = part.split_once('\n').context("no help")?;
        // It goes on for ever.
        if name == "data watch" || !text.contains("--url <URL>") {
            continue;
        }
        let is_there = COMMANDS
            .iter()
            .any(|(command, ..)| command.starts_with(name));
        ensure!(is_there, "{name} is in no row");
    }
    Ok(())
}

#[tokio::test]
async fn the_status_of_a_group_ends_by_what_its_servers_say() -> Result<()> {
    let redis = Redis::start().await?;
    let companion = Settings::default().start().await?;
    let nobody = format!("redis://127.0.0.1:{}/", ports::free()?);
    let foreign = format!("redis://127.0.0.1:{}/", companion.port);
    let status = |servers: &[&str]| {
        let servers = servers.join(",");
        run(
            &["group", "status"],
            &[("UNITRING_GROUP_SERVERS", &servers)],
        )
    };
    // No group was created on it.
    let (code, out, said) = status(&[&redis.url()])?;
    ensure!(
        code == 1 && out.contains("run `unitring group create`"),
        "{code}: {out}{said}"
    );
    let (code, out, said) = status(&[&redis.url(), &nobody])?;
    ensure!(
        code == 1 && out.matches(nobody.as_str()).count() == 1,
        "{code}: {out}{said}"
    );
    let way_out = ": does this server run, and has group.servers its address and password?\n";
    ensure!(out.contains(way_out), "{out}");
    for server in [&nobody, &foreign] {
        let (code, out, said) = status(&[server])?;
        ensure!(
            code == UNREACHABLE && out.contains(way_out),
            "{code}: {out}{said}"
        );
    }
    let (code, ..) = run(&["group", "status", "--nonsense"], &[])?;
    ensure!(code == USAGE);
    Ok(())
}
