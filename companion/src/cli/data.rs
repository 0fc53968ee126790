//! `data`: records of a running companion, by its own API; whole datasets are in [`dataset`].

use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use unitring_protocol::ids::{DatasetName, RecordKey};

use super::dataset::{self, Import, Records};
use super::values;
use crate::client::Target;
use crate::client::ask::{self, AskError, escape, refused, send};
use crate::client::exit::Exit;
use crate::output::{complain, line, say};

/// What is done with a record.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Print a record's value as raw bytes. Exit code 4 if there is no such record.
    Get(One),
    /// Write a record and print its version. Exit code 5 if the condition does not hold.
    Put {
        /// Which.
        #[command(flatten)]
        one: One,
        /// The value; without this and --file it is read from standard input.
        #[arg(long, conflicts_with = "file")]
        value: Option<String>,
        /// A file with the value.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Write only if there is no such record.
        #[arg(long, conflicts_with = "if_match")]
        create: bool,
        /// Time to live, such as 60s.
        #[arg(long, value_parser = values::record_ttl)]
        ttl: Option<String>,
        /// Only if the record has this version.
        #[arg(long, value_name = "VERSION", value_parser = values::version)]
        if_match: Option<String>,
    },
    /// Delete a record. Exit code 4 if there is no such record.
    Delete {
        /// Which.
        #[command(flatten)]
        one: One,
        /// Only if the record has this version.
        #[arg(long, value_name = "VERSION", value_parser = values::version)]
        if_match: Option<String>,
    },
    /// Print the keys of a dataset.
    List {
        /// Print JSON Lines, with version and expiry.
        #[arg(long)]
        json: bool,
        /// Which.
        #[command(flatten)]
        records: Records,
    },
    /// Print changes of a dataset as they come, one JSON object on each line.
    Watch {
        /// Which.
        #[command(flatten)]
        records: Records,
        /// Resume after the event with this id, as an earlier stream sent it.
        #[arg(long)]
        after: Option<String>,
    },
    /// Write the records of a dataset to standard output, one JSON object on each line.
    Export(Records),
    /// Write records from a file or standard input, one JSON object on each line.
    Import(Import),
}

impl DataCommand {
    fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { records, json } => dataset::run_list(records, *json),
            Self::Watch { records, after } => dataset::watch(records, after.clone()),
            Self::Export(records) => dataset::export(records),
            Self::Import(import) => dataset::import(import),
            Self::Get(one) => done(one, "GET", &[], &[], ""),
            Self::Put {
                one,
                value,
                file,
                create,
                if_match,
                ttl,
            } => {
                let mut headers = matching(if_match.as_deref());
                if *create {
                    headers.push(("if-none-match", "*".to_owned()));
                }
                let ttl = ttl.as_deref().map(|ttl| format!("?ttl={}", escape(ttl)));
                let value = value_of(value.as_deref(), file.as_ref())?;
                done(one, "PUT", &headers, &value, &ttl.unwrap_or_default())
            }
            Self::Delete { one, if_match } => {
                done(one, "DELETE", &matching(if_match.as_deref()), &[], "")
            }
        }
    }
}

/// Which record.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The dataset.
    #[arg(long, value_parser = values::name::<DatasetName>)]
    dataset: String,
    /// The record's key in the dataset.
    #[arg(long, value_parser = values::name::<RecordKey>)]
    key: String,
    /// Which companion.
    #[command(flatten)]
    target: Target,
}

/// Does it.
///
/// # Errors
/// An [`ask::AskError`], or a file that cannot be read or written.
pub(crate) fn run(command: &DataCommand) -> anyhow::Result<ExitCode> {
    command.run()
}

fn done(
    one: &One,
    method: &str,
    headers: &[(&str, String)],
    body: &[u8],
    query: &str,
) -> anyhow::Result<ExitCode> {
    let (dataset, key) = (escape(&one.dataset), escape(&one.key));
    let path = format!("/v1/data/{dataset}/{key}{query}");
    let mut response = send(&one.target, method, &path, headers, body)?;
    let status = response.status().as_u16();
    let tag = response.headers().get("etag").cloned();
    let answer = ask::body(&path, &mut response)?;
    match status {
        // A companion sends the version of each record that it reads and writes.
        200..=299 if tag.is_none() => {
            return Err(AskError::NoCompanion(one.target.url.clone()).into());
        }
        200..=299 if method == "GET" => say(&answer)?,
        200..=299 => {
            let tag = tag.as_ref().and_then(|tag| tag.to_str().ok());
            line(tag.unwrap_or("?").trim_matches('"'))?;
        }
        _ => {
            let error = refused(&one.target, &path, status, &answer);
            if matches!(error, AskError::NoCompanion(_)) {
                return Err(error.into());
            }
            complain(error);
            return Ok(ExitCode::from(match status {
                404 => Exit::Absent,
                412 => Exit::Conflict,
                _ => Exit::Failure,
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn matching(version: Option<&str>) -> Vec<(&'static str, String)> {
    let headers = version.map(|version| ("if-match", format!("\"{version}\"")));
    headers.into_iter().collect()
}

fn value_of(value: Option<&str>, file: Option<&PathBuf>) -> anyhow::Result<Vec<u8>> {
    use anyhow::Context as _;
    if let Some(value) = value {
        return Ok(value.as_bytes().to_vec());
    }
    if let Some(file) = file {
        return fs::read(file).map_err(|error| AskError::of_file(file, &error).into());
    }
    let mut bytes = Vec::new();
    io::stdin()
        .read_to_end(&mut bytes)
        .context("read standard input")?;
    Ok(bytes)
}
