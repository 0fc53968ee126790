//! `/stats` of a cluster → how many of the errors of its hosts were answers of a working host.
//!
//! Envoy counts as an error of the host each 5xx and each attempt that it retried, whatever its
//! status (`rq_error`). Of the cluster it counts the status of each answer, and of each that it
//! retried. So these counts tell a retried 429 from a 503, whatever made Envoy retry: a route, the
//! cluster, an extension, or a header of the request.
//!
//! A gateway failure is a 502, 503 or 504, as for Envoy's `consecutive_gateway_failure`. A 500 is
//! none: a key whose requests fail with 500 wherever they run would eject one instance after the
//! other.

use unitring_routing::hash::xxh64;
use unitring_routing::names::Names;

use super::DiscoveryError;
use super::page::{HostCounts, Page};

/// Counts of a cluster's answers since its start, or their growth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statuses {
    /// Answers that are no gateway failures, though Envoy counts them as errors of the host.
    pub answers: u64,
    /// Answers of status 200 that were retried. They are gRPC's, and what they were is in
    /// `grpc-status`, which Envoy does not count.
    pub retried_ok: u64,
    /// Answers that ended a request, by their status.
    completed: u64,
    /// The same as Envoy counts them together.
    all_completed: u64,
    /// Answers that were retried, by their status.
    retried: u64,
    /// Retries, whatever was retried; `None` if Envoy keeps no such stat, which every cluster has.
    retries: Option<u64>,
    /// Attempts that ended without an answer. They may have been retried.
    unanswered: u64,
}

/// Why statuses are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// Envoy does not show its stats.
    Refused,
    /// Envoy keeps no counts by status of this cluster.
    NotKept,
    /// Envoy keeps no counts by status of answers that it retried.
    RetriesNotKept,
}

/// The statuses of the answers at least since the last page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seen {
    /// Not known, or nobody asked: only what is a failure for certain counts.
    #[default]
    Unknown,
    /// Envoy does not show them, at all: the routes tell whether errors are failures.
    Hidden,
    /// These.
    Grown(Statuses),
}

impl Seen {
    /// How many errors of the cluster's hosts were no gateway failures, on whichever host; `None` if that is
    /// not known. `retries_failures_alone`: whether no route to the cluster, nor the cluster itself, retries
    /// anything else.
    pub fn answers(self, retries_failures_alone: bool) -> Option<u64> {
        match self {
            Seen::Unknown => None,
            Seen::Hidden => retries_failures_alone.then_some(0),
            Seen::Grown(statuses) if retries_failures_alone => Some(statuses.answers),
            Seen::Grown(statuses) => {
                let unclear = statuses.retried_ok.saturating_add(statuses.unexplained());
                Some(statuses.answers.saturating_add(unclear))
            }
        }
    }
}

/// Reads the stats that [`super::paths::statuses`] asks for.
///
/// # Errors
/// If the answer has another form than Envoy's.
pub fn read(stat_name: &str, body: &[u8]) -> Result<Statuses, DiscoveryError> {
    let text = str::from_utf8(body).map_err(|_| DiscoveryError::NoStats("it is not text"))?;
    let mut statuses = Statuses::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let stat = line.rsplit_once(": ");
        let (name, count) = stat.ok_or(DiscoveryError::NoStats("a line has no count"))?;
        let name = name.strip_prefix("cluster.");
        let name = name.and_then(|name| name.strip_prefix(stat_name)?.strip_prefix('.'));
        let (is_retried, name) = match name.and_then(|name| name.strip_prefix("retry.")) {
            Some(retried) => (true, Some(retried)),
            None => (false, name),
        };
        let Some(name) = name.and_then(|name| name.strip_prefix("upstream_")) else {
            return Err(DiscoveryError::NoStats("a line is of something else"));
        };
        let count = count.parse::<u64>();
        let count = count.map_err(|_| DiscoveryError::NoStats("a count is not a number"))?;
        statuses.add(is_retried, name, count)?;
    }
    Ok(statuses)
}

impl Statuses {
    fn add(&mut self, is_retried: bool, name: &str, count: u64) -> Result<(), DiscoveryError> {
        let more = |counter: &mut u64| *counter = counter.saturating_add(count);
        match name {
            "rq_retry" if !is_retried => self.retries = Some(count),
            "rq_completed" if !is_retried => self.all_completed = count,
            "rq_rx_reset"
            | "rq_pending_failure_eject"
            | "rq_per_try_timeout"
            | "cx_destroy_remote_with_active_rq"
                if !is_retried =>
            {
                more(&mut self.unanswered);
            }
            _ => {
                let status = name.strip_prefix("rq_").map(str::parse::<u16>);
                let Some(Ok(status)) = status else {
                    return Err(DiscoveryError::NoStats("a line has no status"));
                };
                self.add_status(is_retried, status, count);
            }
        }
        Ok(())
    }

    fn add_status(&mut self, is_retried: bool, status: u16, count: u64) {
        let all = match is_retried {
            true => &mut self.retried,
            false => &mut self.completed,
        };
        *all = all.saturating_add(count);
        let is_own_error = matches!(status, 500..600) && !matches!(status, 502..=504);
        let counter = match (is_retried, status) {
            (true, 502..=504) => return,
            (true, 200) => &mut self.retried_ok,
            (true, _) => &mut self.answers,
            (false, _) if is_own_error => &mut self.answers,
            (false, _) => return,
        };
        *counter = counter.saturating_add(count);
    }

    /// Retries of which it is not known what was retried. A `stats_matcher` may leave out the statuses
    /// of answers that were retried alone: any of these may then be a 429.
    fn unexplained(&self) -> u64 {
        let explained = self.retried.saturating_add(self.unanswered);
        self.retries.unwrap_or(0).saturating_sub(explained)
    }

    /// What these counts do not tell; `served`: whether a host of the cluster has answered.
    fn hidden(&self, served: bool) -> Option<Hidden> {
        let is_counted = self.completed > 0 || !(served || self.all_completed > 0);
        if self.retries.is_none() || !is_counted {
            return Some(Hidden::NotKept);
        }
        (self.retried == 0 && self.unexplained() > 0).then_some(Hidden::RetriesNotKept)
    }

    /// `None` if a count went back, as after a hot restart.
    fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            answers: self.answers.checked_sub(before.answers)?,
            retried_ok: self.retried_ok.checked_sub(before.retried_ok)?,
            completed: self.completed.checked_sub(before.completed)?,
            all_completed: self.all_completed.checked_sub(before.all_completed)?,
            retried: self.retried.checked_sub(before.retried)?,
            retries: self
                .retries
                .zip(before.retries)
                .and_then(|(now, before)| now.checked_sub(before)),
            unanswered: self.unanswered.checked_sub(before.unanswered)?,
        })
    }
}

/// The last readings, each with the number of its look at Envoy.
///
/// A reading is made after the page of its look. So the answers that one page has more than the last
/// are among those between this look's reading and one of the look before the last, or an earlier
/// one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Readings {
    look: u64,
    /// The newest first.
    last: [Option<(u64, Statuses)>; 3],
    hidden: Option<Hidden>,
}

impl Readings {
    /// Begins a look.
    pub fn begin_look(&mut self) {
        self.look = self.look.saturating_add(1);
    }

    /// Takes this look's reading; `None` if Envoy does not show its stats. `served`: whether a host of the
    /// cluster has answered.
    pub fn take(&mut self, statuses: Option<Statuses>, served: bool) {
        let [first, second, _] = self.last;
        (self.last, self.hidden) = match statuses {
            Some(statuses) => (
                [Some((self.look, statuses)), first, second],
                statuses.hidden(served),
            ),
            None => ([None; 3], Some(Hidden::Refused)),
        };
    }

    /// Why the last reading did not tell all; `None` if it did, or there is none.
    pub fn hidden(&self) -> Option<Hidden> {
        self.hidden
    }

    /// What grew at least since the last page. It may be more than that.
    pub fn growth(&self) -> Seen {
        if matches!(self.hidden, Some(Hidden::Refused | Hidden::NotKept)) {
            return Seen::Hidden;
        }
        self.grown().map_or(Seen::Unknown, Seen::Grown)
    }

    fn grown(&self) -> Option<Statuses> {
        let [newest, older @ ..] = &self.last;
        let (look, newest) = newest.as_ref()?;
        if *look != self.look || newest.completed == 0 {
            return None;
        }
        let mut before = older.iter().flatten();
        let (_, before) = before.find(|(at, _)| at.saturating_add(2) <= self.look)?;
        newest.since(*before)
    }
}

/// The hosts of which it depends on statuses what became of their attempts between two pages: those with
/// errors that may be anything, and no success. Each is a hash of its address, with those errors.
pub fn undecided(before: &Page, now: &Page) -> Vec<(u64, u64)> {
    let unsure = |counts: &HostCounts| counts.errors.saturating_sub(counts.sure);
    let sum = |page: &Page| {
        let all = page.hosts.iter().map(|host| unsure(&host.counts));
        all.fold(0u64, u64::saturating_add)
    };
    if sum(before) == sum(now) {
        return Vec::new();
    }
    let known = Names::of(before.hosts.iter().map(|host| host.address.as_str()));
    let hosts = now.hosts.iter().filter_map(|host| {
        let before = known
            .last(&host.address)
            .and_then(|at| before.hosts.get(at));
        let before = before.map(|host| host.counts).unwrap_or_default();
        let errors = unsure(&host.counts).saturating_sub(unsure(&before));
        let is_unclear = errors > 0 && host.counts.successes <= before.successes;
        is_unclear.then(|| (xxh64(host.address.as_bytes()), errors))
    });
    hosts.collect()
}

#[cfg(test)]
mod tests;
