//! The findings as people read them, each source for itself, the gravest first; and as JSON.

use std::cmp::Reverse;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::gather::Gathered;
use crate::client::ask::count;
use crate::doctor::{Finding, Severity};

/// Findings of one code in a source that are shown; JSON has all.
const ALIKE_MAX: usize = 5;
const HEAD: Style = Style::new().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WARN: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();

pub(super) fn json(gathered: &Gathered) -> Value {
    let counted = |severity| number(gathered, severity);
    json!({
        "findings": gathered.findings,
        "sources": gathered.sources,
        "summary": {
            "error": counted(Severity::Error),
            "warn": counted(Severity::Warn),
            "info": counted(Severity::Info),
        },
    })
}

fn number(gathered: &Gathered, severity: Severity) -> usize {
    let found = gathered.findings.iter();
    found.filter(|finding| finding.severity == severity).count()
}

pub(super) fn text(gathered: &Gathered) -> String {
    let of = |source: &str| -> Vec<&Finding> {
        let found = gathered.findings.iter();
        found.filter(|finding| finding.source == source).collect()
    };
    let sources = gathered.sources.iter();
    let mut groups: Vec<(&String, Vec<&Finding>)> = sources
        .map(|source| (source, of(source)))
        .filter(|(_, found)| !found.is_empty())
        .collect();
    // Sources that are equally grave stay in their order.
    groups.sort_by_key(|(_, found)| Reverse(found.iter().map(|finding| finding.severity).max()));
    let mut out = String::new();
    for (source, found) in groups {
        out.push_str(&format!("{HEAD}{source}{HEAD:#}\n"));
        out.push_str(&of_source(&found));
    }
    out + &summary(gathered)
}

fn of_source(found: &[&Finding]) -> String {
    let mut out = String::new();
    for (at, finding) in found.iter().enumerate() {
        let before = found.iter().take(at);
        let alike = before.filter(|other| other.code == finding.code).count();
        match alike {
            ..ALIKE_MAX => out.push_str(&one(finding)),
            ALIKE_MAX => {
                let all = found.iter().filter(|other| other.code == finding.code);
                let more = all.count() - alike;
                let code = finding.code.as_str();
                out.push_str(&format!("and {more} more of {code}: --json has all\n\n"));
            }
            _ => {}
        }
    }
    out
}

fn one(finding: &Finding) -> String {
    let style = match finding.severity {
        Severity::Error => BAD,
        Severity::Warn => WARN,
        Severity::Info => NOTE,
    };
    let (code, severity) = (finding.code, finding.severity.as_str());
    let mend = finding.mend.replace('\n', "\n           ");
    format!(
        "{style}{severity:<5} {}  {}{style:#}\n  at       {}\n  seen     {}\n  follows  {}\n  mend     {mend}\n  page     {}\n\n",
        code.as_str(),
        code.title(),
        finding.path,
        finding.seen,
        finding.follows,
        finding.page,
    )
}

/// `3 errors, 1 warning in envoy.yaml`.
fn summary(gathered: &Gathered) -> String {
    let of = |severity, what: &str| {
        let found = number(gathered, severity);
        (found > 0).then(|| count(found, what))
    };
    let counts = [
        of(Severity::Error, "error"),
        of(Severity::Warn, "warning"),
        of(Severity::Info, "note"),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let style = match (
        number(gathered, Severity::Error),
        number(gathered, Severity::Warn),
    ) {
        (0, 0) => GOOD,
        (0, _) => WARN,
        _ => BAD,
    };
    let counts = match counts.is_empty() {
        true => "no findings".to_owned(),
        false => counts.join(", "),
    };
    format!(
        "{style}{counts}{style:#} in {}\n",
        gathered.sources.join(", ")
    )
}
