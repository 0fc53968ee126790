//! Parses, runs, exits.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use unitring::cli::group::GroupCommand;
use unitring::cli::{Cli, Command, ask, data, instance, unit};
use unitring::config::Settings;
use unitring::serve;

/// `EX_USAGE`: the configuration is wrong, and starting again won't help.
const BAD_CONFIG: u8 = 64;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(fields) => match fields.settings() {
            Ok(settings) => serve(settings),
            Err(error) => return bad_config(&error),
        },
        Command::Check(fields) => match fields.settings() {
            Ok(settings) => print(&settings.to_string()),
            Err(error) => return bad_config(&error),
        },
        Command::Locate(asked) => ask::locate(&asked)
            .map_err(anyhow::Error::from)
            .and_then(|text| print(&text)),
        Command::Group(command) => match command.fields().settings() {
            Ok(settings) => return group(command, settings),
            Err(error) => return bad_config(&error),
        },
        Command::Data(command) => return data::run(&command),
        Command::Instance(command) => instance::run(&command)
            .map_err(anyhow::Error::from)
            .and_then(|text| print(&text)),
        Command::Unit(command) => unit::run(&command)
            .map_err(anyhow::Error::from)
            .and_then(|text| print(&text)),
        Command::Conflicts(asked) => unit::conflicts(&asked)
            .map_err(anyhow::Error::from)
            .and_then(|text| print(&text)),
        Command::Status { json, target } => ask::status(&target, json)
            .map_err(anyhow::Error::from)
            .and_then(|text| print(&text)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unitring: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn group(command: GroupCommand, settings: Settings) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(command.run(settings)),
        Err(error) => {
            eprintln!("unitring: start the runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bad_config(error: &unitring::config::ConfigError) -> ExitCode {
    eprintln!("unitring: bad configuration: {error}");
    ExitCode::from(BAD_CONFIG)
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write to standard output")
}

/// The broker client logs each lost connection several times; the driver says it once.
fn log_filter(asked: &str) -> String {
    if asked.contains("lapin") {
        return asked.to_owned();
    }
    format!("{asked},lapin=off,io_loop=off")
}

fn serve(settings: Settings) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(log_filter(&settings.log))
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve::run(settings, stop)
            .await
            .map_err(anyhow::Error::from)
    })
}
