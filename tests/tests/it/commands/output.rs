//! Output that is closed or full: no command panics or ends with 0. A full disk is an error, a closed pipe is silent.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use unitring_tests::companion::Settings;
use unitring_tests::instance::Instance;
use unitring_tests::programs;
use unitring_tests::redis::Redis;

use super::{ends_with_its_reader, url};

/// Commands that print something of a companion, which has the service `orders` and the record `d`/`k`.
const ASK: &[&str] = &[
    "status",
    "status --json",
    "status --watch",
    "service list",
    "service list --json",
    "instance list --service orders",
    "instance list --service orders --json",
    "instance add --service orders --id 10.0.0.9:80",
    "instance drain --service orders --id 10.0.0.9:80",
    "instance undrain --service orders --id 10.0.0.9:80",
    "instance remove --service orders --id 10.0.0.9:80 --yes",
    "data get --dataset d --key k",
    "data put --dataset d --key k --value v",
    "data list --dataset d",
    "data list --dataset d --json",
    "data export --dataset d",
    "data import --dataset d --file /dev/null",
    "unit list --json",
    "conflicts --json",
    "store compact",
    "events",
    "events --json",
    "events --since 1h",
    "events --follow",
    "top --frames 2 --interval 100ms",
    "doctor",
];

/// Commands that print without a companion.
const ALONE: &[&str] = &[
    "completions bash",
    "completions zsh",
    "check",
    "--help",
    "serve --help",
    "--version",
    "-V",
];

/// The error if standard output has no room.
fn tells_that_it_is_full(arguments: &str) -> Result<()> {
    let mut command = Command::new(programs::built("unitring")?);
    let full = std::fs::File::options().write(true).open("/dev/full")?;
    let output = command.args(arguments.split(' ')).stdout(full).output()?;
    let (code, said) = (output.status.code(), String::from_utf8(output.stderr)?);
    ensure!(
        code == Some(1)
            && said
                == "unitring: write to standard output: No space left on device (os error 28)\n",
        "{arguments}: {code:?}: {said}"
    );
    Ok(())
}

#[tokio::test]
async fn no_command_whose_output_is_unread_or_full_ends_with_0() -> Result<()> {
    let companion = Settings::default().start().await?;
    let instance = Instance::start("a").await?;
    companion.register(&instance).await?;
    companion.tells("added", "a", "").await?;
    let put: Vec<&str> = "data put --dataset d --key k --value v"
        .split(' ')
        .collect();
    let (is_done, text) = companion.ask(&put)?;
    ensure!(is_done, "{text}");
    let at = url(companion.port);
    for command in ASK {
        let command = format!("{command} --url {at}");
        if !command.starts_with("doctor") && !command.contains("remove") {
            ends_with_its_reader(&command)?;
        }
        // `conflicts` and `unit list` print nothing about a unit without peers.
        tells_that_it_is_full(&command)?;
    }
    for command in ALONE {
        ends_with_its_reader(command)?;
        tells_that_it_is_full(command)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_group_is_created_even_if_its_steps_cannot_be_printed() -> Result<()> {
    let redis = Redis::start().await?;
    let servers = format!("--group-servers {}", redis.url());
    tells_that_it_is_full(&format!("group create {servers}"))?;
    ends_with_its_reader(&format!("group create {servers}"))?;
    ends_with_its_reader(&format!("group status {servers}"))?;
    tells_that_it_is_full(&format!("group status {servers}"))
}

/// A command that fails with both streams closed or full must not panic.
#[test]
fn an_error_that_nobody_can_read_is_no_panic() -> Result<()> {
    let program = programs::built("unitring")?;
    let program = program.display();
    let folder = TempDir::new()?;
    for (arguments, code) in [
        ("status --url http://127.0.0.1:1", 2),
        ("nonsense", 64),
        ("check --log verbose", 64),
        ("group status", 64),
        ("completions bash", 1),
    ] {
        for streams in [">/dev/full 2>/dev/full", ">/dev/full 2>&-", ">&- 2>&-"] {
            let script = format!("{program} {arguments} {streams}");
            let mut shell = Command::new("bash");
            let status = shell
                .args(["-c", &script])
                .current_dir(folder.path())
                .status()?;
            let ended = status.code().context("it was killed")?;
            // Rust opens /dev/null in place of a stream that is closed from the start.
            let is_as_told = ended == code || streams.starts_with(">&-");
            ensure!(is_as_told && ended != 101, "{script}: {ended}");
        }
    }
    Ok(())
}
