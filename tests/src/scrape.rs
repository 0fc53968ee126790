//! A page of metrics in Prometheus' text format, as a test reads it, and what `promtool` says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::programs;

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// The samples of a page.
///
/// # Errors
/// A line is none.
pub fn samples(page: &str) -> Result<Vec<Sample>> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| sample(line).with_context(|| line.to_owned()))
        .collect()
}

fn sample(line: &str) -> Option<Sample> {
    let mut labels = BTreeMap::new();
    let (head, value) = line.rsplit_once(' ')?;
    let (name, mut rest) = match head.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}')?.trim_end_matches(',')),
        None => (head, ""),
    };
    while !rest.is_empty() {
        let (label, text) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = text.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    char => value.push(char),
                },
                (_, char) => value.push(char),
            }
        };
        labels.insert(label.trim_start_matches(',').to_owned(), value);
        rest = text.get(end + 1..)?;
    }
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// The families of a page that begin like this, each with all labels that its samples have.
///
/// # Errors
/// A line is no sample.
pub fn labels(page: &str, prefix: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sample in samples(page)? {
        if sample.name.starts_with(prefix) {
            let labels = sample.labels.into_keys();
            families.entry(sample.name).or_default().extend(labels);
        }
    }
    Ok(families)
}

/// Lets `promtool` check a page.
///
/// # Errors
/// It finds something; the text says what.
pub fn is_accepted(page: &str) -> Result<()> {
    let mut tool = Command::new(programs::part("promtool")?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = tool.stdin.take().context("no input")?;
    input.write_all(page.as_bytes())?;
    drop(input);
    let output = tool.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{said}\n{page}");
    Ok(())
}
