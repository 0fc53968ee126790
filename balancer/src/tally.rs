//! Envoy's own counts of each instance, from one look to the next → the growth since the last look.
//!
//! Envoy counts each attempt where it ran, even if it was retried, hedged or redirected. So these
//! are the calls and failures that stats and reports show, and that ejection uses. One VM of the
//! process adds the growth. The last counts are in shared data, so that nothing is added twice.

use unitring_routing::names::Names;

use crate::discovery::page::HostCounts;
use crate::stored::stored;

/// How long an id is kept that only VMs with another identity of instances see. They look at least
/// every ten minutes.
const KEPT_MS: u64 = 30 * 60_000;

/// How a VM identifies instances. VMs of one service may differ in it, and each counts by its own
/// ids. An id may be both: an instance without a host name has its address as its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// By addresses.
    Addresses,
    /// By host names.
    Hostnames,
}

impl Ids {
    fn bit(self) -> u64 {
        match self {
            Ids::Addresses => 1,
            Ids::Hostnames => 2,
        }
    }
}

/// The last counts of each instance of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// When the last page that was adopted by addresses arrived, and the last by host names.
    addresses_ms: u64,
    hostnames_ms: u64,
    /// The kind of ids by which the service as a whole is counted, as two kinds would count each
    /// attempt twice; 0 if no VM has counted yet.
    leading: u64,
    /// Since when that kind leads.
    leading_ms: u64,
    seen: Vec<Seen>,
}

stored!(Tally {
    addresses_ms,
    hostnames_ms,
    leading,
    leading_ms,
    seen
});

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
    came_ms: u64,
    /// The kinds of ids that it is.
    kinds: u64,
}

stored!(Seen {
    id,
    counts,
    came_ms,
    kinds
});

impl Seen {
    /// Whether its counts may be newer than those of a page.
    fn is_newer(&self, made: Made) -> bool {
        made.asked_ms <= self.came_ms && self.came_ms <= made.came_ms
    }
}

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
    /// Failures that are certain to be failures.
    pub sure: u64,
    /// Whether these are all since the host's start, and not since the last page.
    pub from_start: bool,
    /// Whether it counts for the service as a whole, too.
    pub of_service: bool,
}

impl Tally {
    /// Adopts the counts of a page and returns the growth. An instance for which `counts_now` is
    /// `false` is skipped, and so counted in full at a later look. `leads` says whether this VM's
    /// kind of ids is the one by which the service as a whole is counted.
    ///
    /// A page that may be older than the last one is ignored: its counts are lower, as if the hosts
    /// had started anew. Two VMs may look at the same time, while a lease changes hands or because
    /// their settings differ. A VM whose page is ignored looks again.
    pub fn take(
        &mut self,
        now: &[(String, HostCounts)],
        counts_now: impl Fn(&str) -> bool,
        made: Made,
        (ids, leads): (Ids, bool),
    ) -> Vec<Growth> {
        let came_ms = match ids {
            Ids::Addresses => &mut self.addresses_ms,
            Ids::Hostnames => &mut self.hostnames_ms,
        };
        let clock_went_back = made.came_ms < *came_ms;
        if made.asked_ms <= *came_ms && !clock_went_back {
            return Vec::new();
        }
        let last_ms = std::mem::replace(came_ms, made.came_ms);
        self.lead(ids, leads, made);
        let mut before: Vec<Option<Seen>> = std::mem::take(&mut self.seen)
            .into_iter()
            .map(Some)
            .collect();
        let known: Vec<String> = before
            .iter()
            .flatten()
            .map(|seen| seen.id.clone())
            .collect();
        let known = Names::of(known.iter().map(String::as_str));
        let mut growths = Vec::new();
        for (id, counts) in now {
            let before = known.last(id).and_then(|at| before.get_mut(at)?.take());
            if !counts_now(id) || before.as_ref().is_some_and(|seen| seen.is_newer(made)) {
                self.seen.extend(before);
                continue;
            }
            let seen = Seen {
                id: id.clone(),
                counts: *counts,
                came_ms: made.came_ms,
                kinds: ids.bit() | before.as_ref().map_or(0, |before| before.kinds),
            };
            let last_ms = before.as_ref().map_or(last_ms, |before| before.came_ms);
            let of_service = seen.kinds & self.leading != 0 && last_ms >= self.leading_ms;
            let before = before.map(|before| before.counts);
            growths.push(grown(id, counts, before, of_service));
            self.seen.push(seen);
        }
        self.keep_others(before, ids, made);
        growths.retain(|growth| growth.calls + growth.failures + growth.successes > 0);
        growths
    }

    fn lead(&mut self, ids: Ids, leads: bool, made: Made) {
        if self.leading == 0 {
            self.leading = ids.bit();
        } else if leads && self.leading != ids.bit() {
            self.leading = ids.bit();
            // The other kind has counted what this kind has yet to count.
            self.leading_ms = made.came_ms;
        }
    }

    /// Keeps what this page does not have but the pages of VMs with other ids may have. Otherwise
    /// they would count it in full each time.
    fn keep_others(&mut self, rest: Vec<Option<Seen>>, ids: Ids, made: Made) {
        let others = rest.into_iter().flatten().filter_map(|mut seen| {
            seen.kinds &= !ids.bit();
            let is_fresh = made.came_ms.abs_diff(seen.came_ms) <= KEPT_MS;
            (seen.kinds != 0 && is_fresh).then_some(seen)
        });
        self.seen.extend(others);
    }
}

/// Envoy counts from 0 when a host is new, comes back or is renamed; then the whole count is
/// growth.
fn grown(id: &str, now: &HostCounts, before: Option<HostCounts>, of_service: bool) -> Growth {
    let is_new = before.is_none();
    let before = before.unwrap_or_default();
    let began_anew =
        now.calls < before.calls || now.errors < before.errors || now.successes < before.successes;
    let from_start = is_new || began_anew;
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
        from_start,
        of_service,
    }
}

impl Growth {
    /// The failures in a row after this look, if there were `before` of them before it. A single
    /// success ends the row, since an instance that answers at all works and the order of the
    /// attempts is unknown.
    ///
    /// `answers`: how many errors of the cluster's hosts since the last page were no gateway failures,
    /// on whichever host; `None` if that is not known. Envoy counts a 500 and each attempt that it
    /// retried as an error, a 429 as well as a 503.
    pub fn failures_in_row(&self, before: u64, answers: Option<u64>) -> u64 {
        if self.successes > 0 {
            return 0;
        }
        let failures = match answers {
            Some(answers) if !self.from_start => self.failures.saturating_sub(answers),
            _ => 0,
        };
        before.saturating_add(failures.max(self.sure))
    }
}

#[cfg(test)]
mod tests;
