//! `group create` and `group status`: the program's own work on the servers, without a companion that
//! runs.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Fields;
use crate::client::exit::Exit;
use crate::config::{GroupSettings, Persistence, Settings};
use crate::group::GroupError;
use crate::group::create::{Options, create};
use crate::group::status::{Status, status};
use crate::output::{OutputError, complain, line, say};
use crate::tls;

/// What is done with the group.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Create the group of `[group]`, or repair it: data structure, persistence, replication, fixed data.
    Create(Create),
    /// Show the state of each server. Exit code 1 if something is wrong, 2 if no server answers.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The configuration.
        #[command(flatten)]
        fields: Fields,
    },
}

/// How the group is created.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Print the steps without taking them.
    #[arg(long)]
    dry_run: bool,
    /// A server, as ip:port, whose own data may be replaced by the primary's.
    #[arg(long, value_name = "IP:PORT", value_parser = super::values::address)]
    force_replica: Vec<SocketAddr>,
    /// The configuration.
    #[command(flatten)]
    fields: Fields,
}

impl GroupCommand {
    /// The configuration that it goes by.
    pub(crate) fn fields(&self) -> &Fields {
        match self {
            Self::Create(Create { fields, .. }) | Self::Status { fields, .. } => fields,
        }
    }

    /// Does it; answers, and errors, go where they belong.
    pub(crate) async fn run(self, settings: Settings) -> ExitCode {
        let Some(group) = &settings.group else {
            complain(
                "bad configuration: group.servers is not set: name the Redis servers in the \
                 file of --config, or by --group-servers",
            );
            return Exit::Usage.into();
        };
        if let Err(error) = tls::check(&group.tls) {
            complain(format_args!("bad configuration: {error}"));
            return Exit::Usage.into();
        }
        match self {
            Self::Create(asked) => run_create(group, &settings, asked).await,
            Self::Status { json, .. } => {
                let status = status(group, &settings.unit).await;
                let is_any_there = status.servers.iter().any(|server| server.error.is_none());
                let exit = match (status.healthy, is_any_there) {
                    (true, _) => Exit::Success,
                    (false, true) => Exit::Failure,
                    (false, false) => Exit::Unreachable,
                };
                let text = if json {
                    format!("{:#}\n", json!(status))
                } else {
                    shown(&status)
                };
                said(say(text), exit)
            }
        }
    }
}

async fn run_create(group: &GroupSettings, settings: &Settings, asked: Create) -> ExitCode {
    let options = Options {
        dry_run: asked.dry_run,
        force: asked.force_replica.into_iter().collect(),
    };
    let dry_run = options.dry_run;
    // A step is done even if the reader of the output is gone.
    let tell = |step: &str| drop(line(step));
    let outcome = match create(group, &settings.unit, options, tell).await {
        Ok(0) => "nothing to do: the group is as configured".to_owned(),
        Ok(count) if dry_run => format!("{count} steps would be done; nothing was touched"),
        Ok(count) => format!("done and verified: {count} steps"),
        Err(error) => return failed(&error),
    };
    said(line(outcome), Exit::Success)
}

/// The exit code of the program: output that could not be written is always a failure.
fn said(written: Result<(), OutputError>, exit: Exit) -> ExitCode {
    match written {
        Err(error) => {
            if !error.is_reader_gone() {
                complain(error);
            }
            Exit::Failure.into()
        }
        Ok(()) => exit.into(),
    }
}

fn failed(error: &GroupError) -> ExitCode {
    let prefix = match error {
        GroupError::Refused(_) => "refused, and nothing was touched:\n",
        _ => "",
    };
    complain(format_args!("{prefix}{error}"));
    exit(error).into()
}

fn exit(error: &GroupError) -> Exit {
    match error {
        GroupError::Refused(_) => Exit::Refused,
        GroupError::FixedData { .. } => Exit::Usage,
        GroupError::Server { .. } | GroupError::Unfinished { .. } => Exit::Failure,
    }
}

fn shown(status: &Status) -> String {
    let mut out = String::new();
    for server in &status.servers {
        let line = match &server.error {
            // It is among the problems.
            Some(_) => continue,
            None => format!(
                "{}: {}, offset {}, lag {} bytes, {} ({}), {} keys, {} bytes of memory{}\n",
                server.server,
                server.role,
                server.offset,
                server.lag_bytes,
                server.persistence.map_or("", Persistence::as_str),
                server.persistence_state,
                server.keys,
                server.memory_used,
                server
                    .fixed
                    .as_ref()
                    .map_or(String::new(), |(version, sum)| {
                        let short: String = sum.chars().take(12).collect();
                        format!(", fixed data {version} ({short})")
                    }),
            ),
        };
        out.push_str(&line);
    }
    let is_silent = |problem: &String| {
        let errors = status.servers.iter();
        errors
            .filter_map(|server| server.error.as_ref())
            .any(|error| error == problem)
    };
    for problem in &status.problems {
        let way_out = match is_silent(problem) {
            true => ": does this server run, and has group.servers its address and password?",
            false => "",
        };
        out.push_str(&format!("problem: {problem}{way_out}\n"));
    }
    if status.healthy {
        out.push_str("healthy\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::status::ServerStatus;
    use crate::states::ServerRole;

    #[test]
    fn a_server_that_does_not_answer_is_told_once_with_the_way_out() {
        let error = "redis://10.0.0.2:6379: connection refused".to_owned();
        let there = ServerStatus {
            server: "redis://10.0.0.1:6379".to_owned(),
            role: ServerRole::Primary,
            ..ServerStatus::default()
        };
        let away = ServerStatus {
            server: "redis://10.0.0.2:6379".to_owned(),
            error: Some(error.clone()),
            ..ServerStatus::default()
        };
        let status = Status {
            healthy: false,
            problems: vec![
                "redis://10.0.0.1:6379: 0 of 1 replicas follow".to_owned(),
                error,
            ],
            servers: vec![there, away],
        };
        let shown = shown(&status);
        assert_eq!(shown.matches("10.0.0.2").count(), 1, "{shown}");
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        let told = [
            "problem: redis://10.0.0.1:6379: 0 of 1 replicas follow",
            "problem: redis://10.0.0.2:6379: connection refused: does this server run, and has group.servers its \
             address and password?",
        ];
        assert_eq!(lines, told);
    }
}
