//! `data list`, `watch`, `export` and `import`: the records of a dataset, of a running companion.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};
use unitring_protocol::ids::DatasetName;
use unitring_protocol::record;

use super::stream::follow;
use super::values;
use crate::client::Target;
use crate::client::ask::{AskError, ask, body, escape, list, listed, refused, send, text};
use crate::output::{complain, line};

/// Lines of one batch, and about how many bytes of them.
const BATCH_LINES: usize = 200;
const BATCH_BYTES: usize = 4 << 20;
/// Records of one page.
const PAGE: usize = 500;
/// Refused lines that are shown.
const SHOWN_MAX: usize = 10;

/// Which records.
#[derive(Debug, Args)]
pub(crate) struct Records {
    /// The dataset.
    #[arg(long, value_parser = values::name::<DatasetName>)]
    dataset: String,
    /// Only keys with this prefix.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Which companion.
    #[command(flatten)]
    target: Target,
}

impl Records {
    fn path(&self, rest: &str) -> String {
        let (dataset, prefix) = (escape(&self.dataset), escape(&self.prefix));
        format!("/v1/data/{dataset}?prefix={prefix}{rest}")
    }

    /// Calls `each` with every record of the listing, page by page.
    fn each(&self, mut each: impl FnMut(&Value) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut after = String::new();
        loop {
            let page = ask(&self.target, &self.path(&format!("&limit={PAGE}{after}")))?;
            let records = listed(&self.target, &page, "/records")?;
            records.iter().try_for_each(&mut each)?;
            match page.pointer("/after").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", escape(next)),
                None => return Ok(()),
            }
        }
    }
}

/// Prints their keys; as JSON Lines with version and expiry.
pub(crate) fn run_list(some: &Records, as_json: bool) -> anyhow::Result<ExitCode> {
    some.each(|record| match as_json {
        true => Ok(line(record)?),
        false => Ok(line(text(record, "/key"))?),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints each record with its value, a JSON object a line, as `import` reads it.
pub(crate) fn export(some: &Records) -> anyhow::Result<ExitCode> {
    some.each(|listed| {
        let key = text(listed, "/key");
        let path = format!("/v1/data/{}/{}", escape(&some.dataset), escape(key));
        let mut response = send(&some.target, "GET", &path, &[], &[])?;
        let status = response.status().as_u16();
        let value = body(&path, &mut response)?;
        match status {
            200 => {}
            // It was deleted or expired after it was listed.
            404 => return Ok(()),
            status => return Err(refused(&some.target, &path, status, &value).into()),
        }
        let mut record = match String::from_utf8(value) {
            Ok(text) => json!({"key": key, "text": text}),
            Err(bytes) => json!({"key": key, "value": record::Value(bytes.into_bytes())}),
        };
        let expires = response.headers().get("x-unitring-expires");
        let expires: Option<u64> = expires.and_then(|ms| ms.to_str().ok()?.parse().ok());
        if let (Some(fields), Some(expires_ms)) = (record.as_object_mut(), expires) {
            fields.insert("expires_ms".to_owned(), expires_ms.into());
        }
        Ok(line(record)?)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where lines come from, and where they go.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The dataset to write to.
    #[arg(long, value_parser = values::name::<DatasetName>)]
    dataset: String,
    /// The file; without it, standard input.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Which companion.
    #[command(flatten)]
    target: Target,
}

/// Lines on their way, with their numbers in the file.
#[derive(Debug, Default)]
struct Lines {
    text: String,
    numbers: Vec<usize>,
}

/// The outcome of the lines so far.
#[derive(Debug, Default)]
struct Imported {
    written: usize,
    refused: Vec<String>,
}

impl Imported {
    /// Sends the lines, which are gone then.
    fn send(&mut self, asked: &Import, lines: &mut Lines) -> anyhow::Result<()> {
        if lines.numbers.is_empty() {
            return Ok(());
        }
        let path = format!("/v1/data/{}", escape(&asked.dataset));
        let mut response = send(&asked.target, "POST", &path, &[], lines.text.as_bytes())?;
        let status = response.status().as_u16();
        let answer = body(&path, &mut response)?;
        if !(200..=299).contains(&status) {
            let error = match refused(&asked.target, &path, status, &answer) {
                AskError::Refused(error) => AskError::Refused(lines.by_file(&error)),
                other => other,
            };
            return Err(error.into());
        }
        let answer: Value = serde_json::from_slice(&answer)?;
        for (result, number) in list(&answer, "/results").iter().zip(&lines.numbers) {
            match result.get("error") {
                None => self.written += 1,
                Some(error) => {
                    let key = text(result, "/key");
                    self.refused.push(format!("line {number}: {key}: {error}"));
                }
            }
        }
        *lines = Lines::default();
        Ok(())
    }
}

impl Lines {
    /// An error that names a line of these, by the line of the file.
    fn by_file(&self, error: &str) -> String {
        let named = error.strip_prefix("line ").and_then(|rest| {
            let (number, why) = rest.split_once(':')?;
            let number = number.parse::<usize>().ok()?.checked_sub(1)?;
            Some(format!("line {}:{why}", self.numbers.get(number)?))
        });
        named.unwrap_or_else(|| error.to_owned())
    }
}

/// Writes each line, and says how many. What is refused is shown, and ends it with 1.
pub(crate) fn import(asked: &Import) -> anyhow::Result<ExitCode> {
    let input: Box<dyn BufRead> = match &asked.file {
        Some(file) => {
            let opened = File::open(file).and_then(|opened| match opened.metadata()?.is_dir() {
                true => Err(ErrorKind::IsADirectory.into()),
                false => Ok(opened),
            });
            let opened = opened.map_err(|error| AskError::of_file(file, &error))?;
            Box::new(BufReader::new(opened))
        }
        None => Box::new(io::stdin().lock()),
    };
    let name = asked.file.as_ref().map(|file| file.display().to_string());
    let name = name.as_deref().unwrap_or("standard input");
    let (mut lines, mut done, mut all) = (Lines::default(), Imported::default(), 0);
    let go = || -> anyhow::Result<()> {
        for (line, number) in input.lines().zip(1..) {
            let line = line.map_err(|error| match error.kind() {
                ErrorKind::InvalidData => anyhow!("{name}: line {number}: must be UTF-8"),
                _ => anyhow::Error::from(error).context(format!("{name}: line {number}")),
            })?;
            if line.trim().is_empty() {
                continue;
            }
            lines.text.push_str(&line);
            lines.text.push('\n');
            lines.numbers.push(number);
            all += 1;
            if lines.numbers.len() >= BATCH_LINES || lines.text.len() >= BATCH_BYTES {
                done.send(asked, &mut lines)?;
            }
        }
        done.send(asked, &mut lines)
    };
    let outcome = go();
    // After an error, too: earlier lines stay written.
    let counted = line(format_args!("{} of {all} written", done.written));
    outcome?;
    for one in done.refused.iter().take(SHOWN_MAX) {
        complain(one);
    }
    if done.refused.len() > SHOWN_MAX {
        complain(format_args!("and {} more", done.refused.len() - SHOWN_MAX));
    }
    counted?;
    Ok(ExitCode::from(u8::from(!done.refused.is_empty())))
}

/// Prints changes as they come, a JSON object a line, and connects again after a break, from where it
/// was. Runs until it is killed, or refused.
pub(crate) fn watch(some: &Records, after: Option<String>) -> anyhow::Result<ExitCode> {
    let path = some.path("&watch=true");
    Err(follow(&some.target, &path, after, |change| line(change)))
}
