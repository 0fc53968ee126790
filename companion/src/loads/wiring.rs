//! Findings of filters in how they are wired into Envoy: which are kept, and how they are shown. Pure.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::ids::{ReporterId, ServiceName};
use unitring_protocol::report::Finding;

/// Findings of a reporter that are kept.
pub(crate) const FINDINGS_MAX: usize = 16;
/// Bytes of each text of a finding that are kept.
pub(crate) const FINDING_BYTES_MAX: usize = 512;

/// The findings that a report is kept with, and how many were left out or shortened.
pub(crate) fn kept(reported: &[Finding]) -> (Vec<Finding>, u64) {
    let mut shortened = 0;
    let kept = reported.iter().take(FINDINGS_MAX).map(|finding| {
        let is_short = [&finding.kind, &finding.seen, &finding.mend]
            .iter()
            .all(|text| text.len() <= FINDING_BYTES_MAX);
        shortened += u64::from(!is_short);
        Finding {
            kind: text(&finding.kind),
            seen: text(&finding.seen),
            mend: text(&finding.mend),
        }
    });
    let kept: Vec<Finding> = kept.collect();
    let left_out = u64::try_from(reported.len() - kept.len()).unwrap_or(u64::MAX);
    (kept, shortened + left_out)
}

/// A text of a reporter as a line of a terminal, a log or an answer may have it.
fn text(reported: &str) -> String {
    let fits = |(at, char): &(usize, char)| at + char.len_utf8() <= FINDING_BYTES_MAX;
    let kept = reported.char_indices().take_while(fits);
    let shown = |(_, char): (usize, char)| if char.is_control() { ' ' } else { char };
    kept.map(shown).collect()
}

/// How the findings of a filter differ from those of its last report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The first of each kind that it did not find before.
    pub found: Vec<Finding>,
    /// The first of each kind that it finds no longer.
    pub mended: Vec<Finding>,
}

/// The difference between two lists of findings.
pub(crate) fn changed(last: &[Finding], next: &[Finding]) -> Changed {
    Changed {
        found: beyond(next, last),
        mended: beyond(last, next),
    }
}

/// The first finding of each kind that the others lack.
fn beyond(findings: &[Finding], others: &[Finding]) -> Vec<Finding> {
    let mut kinds: BTreeSet<&str> = others.iter().map(|it| it.kind.as_str()).collect();
    let new = findings.iter().filter(|it| kinds.insert(it.kind.as_str()));
    new.cloned().collect()
}

/// A filter that is wired wrongly for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miswired {
    pub service: ServiceName,
    pub reporter: ReporterId,
    /// Its findings, at least one.
    pub findings: Vec<Finding>,
}

impl Miswired {
    /// A line for each finding.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let line = |finding| line(self.reporter.as_str(), finding);
        self.findings.iter().map(line)
    }
}

/// A finding in words, for the log and the console.
pub(crate) fn line(reporter: &str, finding: &Finding) -> String {
    let Finding { kind, seen, mend } = finding;
    format!("wired wrongly: {kind} ({reporter}): {seen}; mend: {mend}")
}

/// How many reporters found each kind, by service.
pub(crate) fn reporters(found: &[Miswired]) -> BTreeMap<(&ServiceName, &str), u64> {
    let mut reporters = BTreeMap::new();
    for one in found {
        // A filter may find two of a kind.
        let kinds: BTreeSet<&str> = one.findings.iter().map(|it| it.kind.as_str()).collect();
        for kind in kinds {
            *reporters.entry((&one.service, kind)).or_default() += 1;
        }
    }
    reporters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loads::samples::finding;

    #[test]
    fn findings_beyond_the_bound_are_left_out_and_long_ones_shortened_and_both_are_counted() {
        let mut findings = vec![finding("steer_header"); FINDINGS_MAX + 2];
        // A character of two bytes on the bound.
        findings[0].seen = format!("x{}", "é".repeat(300));
        findings[1].mend = "y".repeat(FINDING_BYTES_MAX);
        let (kept, cut) = kept(&findings);
        assert_eq!((kept.len(), cut), (FINDINGS_MAX, 3));
        assert_eq!(kept[0].seen, format!("x{}", "é".repeat(255)));
        assert_eq!(kept[1..], findings[1..FINDINGS_MAX]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        let mut bad = finding("stats_matcher");
        bad.seen = "a\nb\x1b[2J\u{9b}1m".to_owned();
        let (kept, cut) = kept(&[bad]);
        assert_eq!((kept[0].seen.as_str(), cut), ("a b [2J 1m", 0));
    }

    #[test]
    fn a_kind_is_new_once_and_mended_once() {
        let of = |kinds: &[&str]| -> Vec<Finding> { kinds.iter().map(|it| finding(it)).collect() };
        let changed = changed(&of(&["a", "b", "b"]), &of(&["b", "c", "c"]));
        assert_eq!((changed.found, changed.mended), (of(&["c"]), of(&["a"])));
        assert_eq!(
            super::changed(&of(&["a"]), &of(&["a", "a"])),
            Changed::default()
        );
    }

    #[test]
    fn reporters_are_counted_by_service_and_kind() {
        let of = |service: &str, reporter: &str, kinds: &[&str]| Miswired {
            service: service.parse().unwrap(),
            reporter: reporter.parse().unwrap(),
            findings: kinds.iter().map(|kind| finding(kind)).collect(),
        };
        let found = [
            of("orders", "e1", &["a", "b", "a"]),
            of("orders", "e2", &["a"]),
            of("carts", "e1", &["a"]),
        ];
        let count =
            |(key, count): (&(&ServiceName, &str), &u64)| format!("{} {} {count}", key.0, key.1);
        let counts: Vec<String> = reporters(&found).iter().map(count).collect();
        assert_eq!(counts, ["carts a 1", "orders a 2", "orders b 1"]);
        let lines: Vec<String> = found[1].lines().collect();
        assert_eq!(lines, ["wired wrongly: a (e2): saw a; mend: change a"]);
    }
}
