//! Envoy's own counts of each instance, from one look to the next → the growth since the last look.
//!
//! Envoy counts each attempt where it ran, even if it was retried, hedged or redirected. So these
//! are the calls and failures that stats and reports show, and that ejection uses. One VM of the
//! process adds the growth. The last counts are in shared data, so that nothing is added twice.

use unitring_routing::names::Names;

use crate::discovery::page::HostCounts;
use crate::stored::stored;

/// The last counts of each instance of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// When the last page that was adopted arrived.
    came_ms: u64,
    seen: Vec<Seen>,
}

stored!(Tally { came_ms, seen });

/// When a page was made: between these two times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// When the page was asked for.
    pub asked_ms: u64,
    /// When the page arrived.
    pub came_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    id: String,
    counts: HostCounts,
}

stored!(Seen { id, counts });

/// The growth of an instance's counts since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// The id of the instance.
    pub id: String,
    /// Attempts sent to it.
    pub calls: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Attempts that did not fail.
    pub successes: u64,
    /// Of the failures, those that are failures for certain.
    pub sure: u64,
}

impl Tally {
    /// Adopts the counts of a page and returns the growth. An instance for which `counts_now` is
    /// `false` is skipped, and so counted in full at a later look.
    ///
    /// A page that may be older than the last one is ignored: its counts are lower, as if the hosts
    /// had started anew. Two VMs may look at the same time, while a lease changes hands or because
    /// their settings differ. A VM whose page is ignored looks again.
    pub fn take(
        &mut self,
        now: &[(String, HostCounts)],
        counts_now: impl Fn(&str) -> bool,
        made: Made,
    ) -> Vec<Growth> {
        let clock_went_back = made.came_ms < self.came_ms;
        if made.asked_ms <= self.came_ms && !clock_went_back {
            return Vec::new();
        }
        self.came_ms = made.came_ms;
        let before = std::mem::take(&mut self.seen);
        let known = Names::of(before.iter().map(|seen| seen.id.as_str()));
        let mut growths = Vec::new();
        for (id, counts) in now {
            let before = known.last(id).and_then(|at| before.get(at));
            if counts_now(id) {
                growths.push(grown(id, counts, before.map(|seen| seen.counts)));
                self.seen.push(Seen {
                    id: id.clone(),
                    counts: *counts,
                });
            } else {
                self.seen.extend(before.cloned());
            }
        }
        growths.retain(|growth| growth.calls + growth.failures + growth.successes > 0);
        growths
    }
}

/// Envoy counts from 0 when a host is new, comes back or is renamed; then the whole count is
/// growth.
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
    /// The failures in a row after this look, if there were `before` of them before it. A single
    /// success ends the row, since an instance that answers at all works and the order of the
    /// attempts is unknown.
    ///
    /// `errors_are_failures`: whether Envoy retries failures alone. Envoy counts each attempt that
    /// it retried as an error, a 429 as well as a 503.
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

    /// The calls, failures and successes that a page adds, with the times of the page.
    fn step(tally: &mut Tally, counts: HostCounts, asked_ms: u64, came_ms: u64) -> (u64, u64, u64) {
        let made = Made { asked_ms, came_ms };
        let growth = tally.take(&[("a".to_owned(), counts)], |_| true, made);
        let first = growth.first();
        first.map_or((0, 0, 0), |g| (g.calls, g.failures, g.successes))
    }

    #[test]
    fn what_has_grown_is_told_once_and_a_counter_that_began_anew_counts_whole() {
        let mut tally = Tally::default();
        let mut step = |counts, at| step(&mut tally, counts, at, at + 1);
        assert_eq!(step(counts(5, 1, 4), 10), (5, 1, 4));
        assert_eq!(step(counts(5, 1, 4), 20), (0, 0, 0));
        assert_eq!(step(counts(7, 1, 6), 30), (2, 0, 2));
        assert_eq!(step(counts(3, 1, 2), 40), (3, 1, 2), "a new host object");
    }

    #[test]
    fn a_page_that_may_be_older_than_the_last_one_adds_nothing() {
        let mut tally = Tally::default();
        let mut step = |counts, asked, came| step(&mut tally, counts, asked, came);
        assert_eq!(step(counts(7, 1, 6), 10, 20), (7, 1, 6));
        assert_eq!(step(counts(5, 1, 4), 5, 25), (0, 0, 0));
        assert_eq!(step(counts(9, 1, 8), 21, 30), (2, 0, 2));
        assert_eq!(
            step(counts(10, 1, 9), 3, 4),
            (1, 0, 1),
            "a clock that went back"
        );
    }

    #[test]
    fn an_instance_that_is_not_counted_for_a_while_loses_nothing_and_gains_nothing() {
        let mut tally = Tally::default();
        let mut step = |is_known: bool, calls, at| {
            let page = [("a".to_owned(), counts(calls, 0, calls))];
            let made = Made {
                asked_ms: at,
                came_ms: at,
            };
            let growth = tally.take(&page, |_| is_known, made);
            growth.first().map_or(0, |growth| growth.calls)
        };
        assert_eq!(step(false, 5, 1), 0);
        assert_eq!(step(true, 6, 2), 6);
        assert_eq!(step(false, 8, 3), 0);
        assert_eq!(step(true, 9, 4), 3);
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
