//! `group create` and `group status`: the program's own work on the servers, without a companion that
//! runs.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Fields;
use super::exit::Exit;
use crate::config::GroupSettings;
use crate::config::Settings;
use crate::group::GroupError;
use crate::group::create::{Options, create};
use crate::group::status::{Status, status};

/// What is done with the group.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Create the group of `[group]`, or repair it: data structure, persistence, replication, fixed data.
    Create(Create),
    /// Show the state of each server. Exit code 1 if something is wrong, 2 if no server answers.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// The configuration.
        #[command(flatten)]
        fields: Fields,
    },
}

/// How the group is created.
#[derive(Debug, Args)]
pub struct Create {
    /// Print the steps without taking them.
    #[arg(long)]
    dry_run: bool,
    /// A server, as ip:port, whose own data may be replaced by the primary's.
    #[arg(long, value_name = "IP:PORT")]
    force_replica: Vec<SocketAddr>,
    /// The configuration.
    #[command(flatten)]
    fields: Fields,
}

impl GroupCommand {
    /// The configuration that it goes by.
    pub fn fields(&self) -> &Fields {
        match self {
            Self::Create(Create { fields, .. }) | Self::Status { fields, .. } => fields,
        }
    }

    /// Does it; answers, and errors, go where they belong.
    pub async fn run(self, settings: Settings) -> ExitCode {
        let Some(group) = &settings.group else {
            eprintln!(
                "unitring: bad configuration: group.servers is not set: name the Redis servers in the \
                 file of --config, or by --group-servers"
            );
            return Exit::Usage.into();
        };
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
                print!("{text}");
                exit.into()
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
    match create(group, &settings.unit, options, |line| println!("{line}")).await {
        Ok(0) => println!("nothing to do: the group is as it shall be"),
        Ok(count) if dry_run => println!("{count} steps would be done; nothing was touched"),
        Ok(count) => println!("done and verified: {count} steps"),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

fn failed(error: &GroupError) -> ExitCode {
    let prefix = match error {
        GroupError::Refused(_) => "refused, and nothing was touched:\n",
        _ => "",
    };
    eprintln!("unitring: {prefix}{error}");
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
            Some(error) => format!("{error}\n"),
            None => format!(
                "{}: {}, offset {}, lag {} bytes, {} ({}), {} keys, {} bytes of memory{}\n",
                server.server,
                server.role,
                server.offset,
                server.lag_bytes,
                server.persistence,
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
    for problem in &status.problems {
        out.push_str(&format!("problem: {problem}\n"));
    }
    if status.healthy {
        out.push_str("healthy\n");
    }
    out
}
