//! Counts and the limits that are checked in → what has become dearer, and what cheaper. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

use crate::count::Counts;

/// How far a count may be over its limit. The same build counts the same to the instruction; this is room
/// for what a change elsewhere does to the order of code, and for another C library.
const TOLERANCE_PERCENT: u64 = 5;

/// The limit of each case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    compiler: String,
    by_case: BTreeMap<String, u64>,
}

/// The result of each case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    lines: Vec<String>,
    wrong: Vec<String>,
    cheaper: bool,
}

impl Limits {
    /// The file with these counts as limits.
    pub(crate) fn written(counts: &Counts, compiler: &str) -> String {
        let mut text = format!(
            "# Instructions that each case may take, with {TOLERANCE_PERCENT} % more. `make guard RENEW=1` writes this file;\n\
             # the change that makes a number greater says why it is worth it.\n\
             compiler {compiler}\n"
        );
        for (case, count) in counts {
            text.push_str(&format!("{case} {count}\n"));
        }
        text
    }

    /// Compares.
    pub(crate) fn judge(&self, counts: &Counts, compiler: &str) -> Verdict {
        let mut verdict = Verdict {
            lines: Vec::new(),
            wrong: Vec::new(),
            cheaper: false,
        };
        let mut left = self.by_case.clone();
        for (case, count) in counts {
            let Some(limit) = left.remove(case) else {
                verdict.wrong.push(format!("{case} has no limit"));
                continue;
            };
            let mut line = format!(
                "{case:<24} {count:>10} {limit:>10}  {}",
                change(*count, limit)
            );
            let percent = count.saturating_mul(100);
            if percent > limit.saturating_mul(100 + TOLERANCE_PERCENT) {
                line.push_str("  dearer");
                verdict.wrong.push(format!("{case} is dearer"));
            } else if percent < limit.saturating_mul(100 - TOLERANCE_PERCENT) {
                line.push_str("  cheaper");
                verdict.cheaper = true;
            }
            verdict.lines.push(line);
        }
        let gone = left
            .keys()
            .map(|case| format!("{case} is not counted any more"));
        verdict.wrong.extend(gone);
        if !verdict.wrong.is_empty() && compiler != self.compiler {
            let note = format!(
                "the limits are of {}, this is {compiler}: see first whether the commit before counts the same",
                self.compiler
            );
            verdict.wrong.push(note);
        }
        verdict
    }
}

/// The difference in percent, to a tenth.
fn change(count: u64, limit: u64) -> String {
    let (sign, difference) = match count.checked_sub(limit) {
        Some(more) => ('+', more),
        None => ('-', limit.saturating_sub(count)),
    };
    let tenths = difference.saturating_mul(1_000) / limit.max(1);
    format!("{sign}{}.{} %", tenths / 10, tenths % 10)
}

impl FromStr for Limits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (mut compiler, mut by_case) = (None, BTreeMap::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_once(' ') {
                Some(("compiler", name)) => compiler = Some(name.to_owned()),
                Some((case, limit)) => {
                    let limit = limit.parse().with_context(|| line.to_owned())?;
                    by_case.insert(case.to_owned(), limit);
                }
                None => bail!("{line}: must be `<case> <instructions>`"),
            }
        }
        Ok(Self {
            compiler: compiler.context("no line names the compiler")?,
            by_case,
        })
    }
}

impl Verdict {
    /// Whether nothing has become dearer.
    pub(crate) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>10} {:>10}", "instructions of", "now", "limit")?;
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        for wrong in &self.wrong {
            writeln!(f, "error: {wrong}")?;
        }
        if !self.wrong.is_empty() {
            writeln!(
                f,
                "If it is worth it, say so in the commit:  make guard RENEW=1"
            )?;
        } else if self.cheaper {
            writeln!(f, "So that it stays cheaper:  make guard RENEW=1")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(count: u64) -> Verdict {
        let limits: Limits = "# about\ncompiler rustc 1\na 1000\n".parse().unwrap();
        limits.judge(&vec![("a".to_owned(), count)], "rustc 1")
    }

    #[test]
    fn up_to_the_tolerance_nothing_is_said() {
        for count in [950, 1_000, 1_050] {
            let verdict = verdict(count);
            assert!(verdict.is_good() && !verdict.cheaper, "{verdict}");
        }
    }

    #[test]
    fn dearer_fails_and_cheaper_is_said() {
        assert!(!verdict(1_051).is_good());
        assert!(verdict(1_051).to_string().contains("+5.1 %  dearer"));
        assert!(verdict(949).is_good());
        assert!(verdict(949).to_string().contains("-5.1 %  cheaper"));
    }

    #[test]
    fn a_case_without_a_limit_and_a_limit_without_a_case_fail() {
        let limits: Limits = "compiler rustc 1\na 1\n".parse().unwrap();
        let verdict = limits.judge(&vec![("b".to_owned(), 1)], "rustc 2");
        assert!(!verdict.is_good());
        let text = verdict.to_string();
        for part in [
            "b has no limit",
            "a is not counted any more",
            "the limits are of rustc 1",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let counts = vec![("a/b".to_owned(), 1), ("c".to_owned(), 22)];
        let limits: Limits = Limits::written(&counts, "rustc 1.2.3 (abc)")
            .parse()
            .unwrap();
        assert_eq!(limits.compiler, "rustc 1.2.3 (abc)");
        assert_eq!(limits.by_case.into_iter().collect::<Counts>(), counts);
        assert!("a".parse::<Limits>().is_err());
        assert!("a 1".parse::<Limits>().is_err());
    }
}
