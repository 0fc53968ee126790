//! The program: its command line → the command, run, and how it ends.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::Level;

use crate::cli::demo::DemoFlags;
use crate::cli::failure::told;
use crate::cli::group::GroupCommand;
use crate::cli::{
    Cli, Command, Fields, data, doctor, events, instance, locate, service, status, store, unit,
    variables,
};
use crate::client::ask::AskError;
use crate::client::exit::Exit;
use crate::config::{LogFormat, LogSettings, Settings};
use crate::demo::DemoError;
use crate::output::{self, OutputError};
use crate::serve::{Reload, ServeError};
use crate::{commit, demo, log, serve, top};

/// Runs the program, of a build of this commit.
pub fn main(commit: Option<&'static str>) -> ExitCode {
    commit::set(commit);
    let command = match command_line() {
        Ok(cli) => cli.command,
        Err(code) => return code,
    };
    // Only `serve` has a log; its errors before the start have the log's form, too.
    let format = match &command {
        Command::Serve(fields) => fields.log_format(),
        _ => LogFormat::Text,
    };
    warn_of_unknown_variables(format);
    let result = match command {
        Command::Serve(fields) => match fields.settings() {
            Ok(settings) => serve(&fields, &settings),
            Err(error) => return bad_config(format, &error),
        },
        Command::Demo(flags) => demo(flags),
        Command::Check(fields) => match fields.settings() {
            Ok(settings) => match serve::check(&settings) {
                Ok(()) => output::say(settings.to_string()).map_err(anyhow::Error::from),
                Err(error) => return bad_config(format, &error),
            },
            Err(error) => return bad_config(format, &error),
        },
        Command::Locate(asked) => locate::locate(&asked)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(output::say(text)?)),
        Command::Group(command) => match command.fields().settings() {
            Ok(settings) => return group(command, settings),
            Err(error) => return bad_config(format, &error),
        },
        Command::Data(command) => match data::run(&command) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Instance(command) => instance::run(&command)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(output::say(text)?)),
        Command::Service(command) => service::run(&command)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(output::say(text)?)),
        Command::Unit(command) => unit::run(&command)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(output::say(text)?)),
        Command::Store(command) => store::run(&command)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(output::say(text)?)),
        Command::Events(asked) => events::run(&asked),
        Command::Conflicts(asked) => unit::conflicts(&asked)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(output::say(text)?)),
        Command::Top(flags) => top::run(flags),
        Command::Version => {
            output::say(Cli::command().render_long_version()).map_err(anyhow::Error::from)
        }
        Command::Completions { shell } => {
            let (mut command, mut script) = (Cli::command(), Vec::new());
            clap_complete::generate(shell, &mut command, "unitring", &mut script);
            output::say(script).map_err(anyhow::Error::from)
        }
        Command::Man { folder } => manual(&folder),
        Command::Doctor(flags) => match doctor::run(&flags) {
            Ok(exit) => return exit.into(),
            Err(error) => Err(error),
        },
        Command::Status(flags) => match status::run(&flags) {
            Ok(exit) => return exit.into(),
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(format, &error),
    }
}

fn manual(folder: &Path) -> anyhow::Result<()> {
    if !folder.is_dir() {
        let error = format!("{}: must be a folder that exists", folder.display());
        return Err(AskError::Usage(error).into());
    }
    clap_mangen::generate_to(Cli::command(), folder).with_context(|| folder.display().to_string())
}

/// The command line; one that is wrong ends the program as a wrong configuration does.
fn command_line() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let printed = error.print();
        match (error.exit_code(), printed) {
            (0, Ok(())) => ExitCode::SUCCESS,
            (0, Err(error)) => failed(LogFormat::Text, &OutputError::from(error).into()),
            _ => Exit::Usage.into(),
        }
    })
}

fn failed(format: LogFormat, error: &anyhow::Error) -> ExitCode {
    let output: Option<&OutputError> = error.downcast_ref();
    if output.is_some_and(OutputError::is_reader_gone) {
        // As a program that SIGPIPE ends: it fails, and prints no error.
        return Exit::Failure.into();
    }
    let serve: Option<&ServeError> = error.downcast_ref();
    if let Some(error) = serve.filter(|error| error.is_of_configuration()) {
        return bad_config(format, error);
    }
    log::say(format, Level::ERROR, &told(error));
    let demo: Option<&DemoError> = error.downcast_ref();
    if demo.is_some_and(|error| matches!(error, DemoError::Flag { .. })) {
        return Exit::Usage.into();
    }
    let asked = error.downcast_ref::<AskError>();
    asked.map_or(Exit::Failure, AskError::exit).into()
}

/// Variables that are almost ours, as a misspelt one is.
fn warn_of_unknown_variables(format: LogFormat) {
    let command = Cli::command();
    let known = variables::known(&command);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if let Some(warning) = variables::warning(&name, &known) {
            log::say(format, Level::WARN, &warning);
        }
    }
}

fn group(command: GroupCommand, settings: Settings) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(command.run(settings)),
        Err(error) => {
            output::complain(format_args!("start the runtime: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn bad_config(format: LogFormat, error: &dyn std::error::Error) -> ExitCode {
    log::say(format, Level::ERROR, &format!("bad configuration: {error}"));
    Exit::Usage.into()
}

/// How long what runs beside the requests may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

fn serve(fields: &Fields, settings: &Settings) -> anyhow::Result<()> {
    let log = log::start(&settings.log);
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let ended = runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        let (sender, reloads) = mpsc::channel(1);
        let reloading = async {
            loop {
                hangup.recv().await;
                let (done, is_in_force) = oneshot::channel();
                let read = fields.settings();
                let filter = read.as_ref().ok().map(|read| read.log.filter.clone());
                if let Ok(read) = &read {
                    warn_of_restart(settings, read);
                }
                // It ends with the process.
                let settings = read;
                drop(sender.send(Reload { settings, done }).await);
                if let (Ok(true), Some(filter)) = (is_in_force.await, filter)
                    && let Err(error) = log.change(&filter)
                {
                    tracing::warn!(%error, "the last log filter stays in force");
                }
            }
        };
        let stop = stop_signal()?;
        tokio::select! {
            ended = serve::run(settings.clone(), reloads, stop) => ended.map_err(anyhow::Error::from),
            never = reloading => never,
        }
    });
    // A ring that is being built for an answer need not be finished.
    runtime.shutdown_timeout(END_TIMEOUT);
    ended
}

/// Says so if settings have changed that are not read again while the process runs.
fn warn_of_restart(started: &Settings, read: &Settings) {
    let same = Settings {
        door: read.door.clone(),
        log: LogSettings {
            filter: read.log.filter.clone(),
            ..started.log
        },
        ..started.without_logins()
    };
    if same != read.without_logins() {
        tracing::warn!(
            "settings have changed that need a restart: only tokens, names, certificates, logins at servers and log are \
             read again"
        );
    }
}

fn demo(flags: DemoFlags) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(async {
        // A terminal that is closed must not leave it running.
        let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        let asked = stop_signal()?;
        let stop = async move {
            tokio::select! {
                () = asked => {}
                _ = hangup.recv() => {}
            }
        };
        demo::run(flags, stop).await.map_err(|error| match error {
            DemoError::Output(error) => error.into(),
            error => error.into(),
        })
    })
}

/// Ends with the first SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
