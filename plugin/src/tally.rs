//! Envoy's own counts of each instance, from one look to the next → what has grown since.
//!
//! Envoy counts every attempt where it ran, whoever retried, hedged or redirected it, so these are the
//! calls and failures that are shown and reported, and what ejection is judged by. One VM of the process
//! adds what has grown; what was seen last lies in shared data, so that nothing is added twice.

use unitring_routing::names::Names;

use crate::discovery::page::HostCounts;
use crate::stored::stored;

/// What was seen last of each instance of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    seen: Vec<Seen>,
}

stored!(Tally { seen });

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    id: String,
    counts: HostCounts,
}

stored!(Seen { id, counts });

/// What an instance has done since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Which instance.
    pub id: String,
    /// Attempts sent to it.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that did not.
    pub successes: u64,
    /// Of the failures, those that are failures for certain.
    pub sure: u64,
}

impl Tally {
    /// Takes over what is seen now, and says what has grown.
    pub fn take(&mut self, now: &[(String, HostCounts)]) -> Vec<Growth> {
        let known = Names::of(self.seen.iter().map(|seen| seen.id.as_str()));
        let growth = |(id, counts): &(String, HostCounts)| {
            let before = known.last(id).and_then(|at| self.seen.get(at));
            grown(id, counts, before.map(|seen| seen.counts))
        };
        let grown: Vec<Growth> = now.iter().map(growth).collect();
        let seen = now.iter().map(|(id, counts)| Seen {
            id: id.clone(),
            counts: *counts,
        });
        self.seen = seen.collect();
        grown
            .into_iter()
            .filter(|growth| growth.calls + growth.failures + growth.successes > 0)
            .collect()
    }
}

/// Envoy counts from 0 when a host is new to it, or comes back, or is renamed: then all of it is growth.
fn grown(id: &str, now: &HostCounts, before: Option<HostCounts>) -> Growth {
    let before = before.unwrap_or_default();
    let began_anew =
        now.calls < before.calls || now.errors < before.errors || now.successes < before.successes;
    let before = if began_anew {
        HostCounts::default()
    } else {
        before
    };
    let failures = now.errors.saturating_sub(before.errors);
    Growth {
        id: id.to_owned(),
        calls: now.calls.saturating_sub(before.calls),
        failures,
        successes: now.successes.saturating_sub(before.successes),
        sure: now.sure.saturating_sub(before.sure).min(failures),
    }
}

impl Growth {
    /// The failures in a row after this look, where there were so many before it. An instance that
    /// answers anybody is not out of order, so a single success ends the row: in which order they came,
    /// nobody knows.
    ///
    /// `errors_are_failures`: whether Envoy retries nothing but failures. It counts every attempt that it
    /// retried as an error, a 429 as well as a 503.
    pub fn failures_in_row(&self, before: u64, errors_are_failures: bool) -> u64 {
        if self.successes > 0 {
            return 0;
        }
        let failures = if errors_are_failures {
            self.failures
        } else {
            self.sure
        };
        before.saturating_add(failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: u64, errors: u64, successes: u64) -> HostCounts {
        HostCounts {
            calls,
            errors,
            successes,
            ..HostCounts::default()
        }
    }

    #[test]
    fn what_has_grown_is_told_once_and_a_counter_that_began_anew_counts_whole() {
        let mut tally = Tally::default();
        let mut step = |counts| {
            let growth = tally.take(&[("a".to_owned(), counts)]);
            let first = growth.first();
            first.map_or((0, 0, 0), |g| (g.calls, g.failures, g.successes))
        };
        assert_eq!(step(counts(5, 1, 4)), (5, 1, 4));
        assert_eq!(step(counts(5, 1, 4)), (0, 0, 0));
        assert_eq!(step(counts(7, 1, 6)), (2, 0, 2));
        assert_eq!(step(counts(3, 1, 2)), (3, 1, 2), "a new host object");
    }

    #[test]
    fn a_row_of_failures_ends_with_a_success_and_grows_by_what_is_a_failure_for_certain() {
        let growth = |failures, successes, sure| Growth {
            id: "a".to_owned(),
            calls: 0,
            failures,
            successes,
            sure,
        };
        assert_eq!(growth(3, 0, 1).failures_in_row(2, true), 5);
        assert_eq!(growth(3, 0, 1).failures_in_row(2, false), 3);
        assert_eq!(growth(9, 1, 9).failures_in_row(2, true), 0);
        assert_eq!(growth(0, 0, 0).failures_in_row(2, true), 2);
    }
}
