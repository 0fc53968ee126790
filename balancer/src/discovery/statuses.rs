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
    /// Answers that ended a request.
    completed: u64,
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
        let Some(name) = name else {
            return Err(DiscoveryError::NoStats("a line is of something else"));
        };
        let (is_retried, name) = match name.strip_prefix("retry.") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let status = name.strip_prefix("upstream_rq_").map(str::parse::<u16>);
        let (Some(Ok(status)), Ok(count)) = (status, count.parse::<u64>()) else {
            return Err(DiscoveryError::NoStats("a line has no status or no count"));
        };
        statuses.add(is_retried, status, count);
    }
    Ok(statuses)
}

impl Statuses {
    fn add(&mut self, is_retried: bool, status: u16, count: u64) {
        let counter = match (is_retried, status) {
            (true, 502..=504) => return,
            (true, 200) => &mut self.retried_ok,
            (true, _) => &mut self.answers,
            (false, _) => &mut self.completed,
        };
        *counter = counter.saturating_add(count);
        let is_own_error = matches!(status, 500..600) && !matches!(status, 502..=504);
        if !is_retried && is_own_error {
            self.answers = self.answers.saturating_add(count);
        }
    }

    /// `None` if a count went back, as after a hot restart.
    fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            answers: self.answers.checked_sub(before.answers)?,
            retried_ok: self.retried_ok.checked_sub(before.retried_ok)?,
            completed: self.completed.checked_sub(before.completed)?,
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
}

impl Readings {
    /// Begins a look.
    pub fn begin_look(&mut self) {
        self.look = self.look.saturating_add(1);
    }

    /// Takes this look's reading; `None` if Envoy does not show its stats.
    pub fn take(&mut self, statuses: Option<Statuses>) {
        let [first, second, _] = self.last;
        self.last = match statuses {
            Some(statuses) => [Some((self.look, statuses)), first, second],
            None => [None; 3],
        };
    }

    /// What grew at least since the last page; `None` if that is not known. It may be more than that.
    pub fn growth(&self) -> Option<Statuses> {
        let [newest, older @ ..] = &self.last;
        let (look, newest) = newest.as_ref()?;
        // A stats_matcher may leave them out.
        if *look != self.look || newest.completed == 0 {
            return None;
        }
        let mut before = older.iter().flatten();
        let (_, before) = before.find(|(at, _)| at.saturating_add(2) <= self.look)?;
        newest.since(*before)
    }
}

/// Whether it depends on statuses what became of the attempts between two pages: a host has errors
/// that may be anything, and no success.
pub fn decide(before: &Page, now: &Page) -> bool {
    let unsure = |counts: &HostCounts| counts.errors.saturating_sub(counts.sure);
    let sum = |page: &Page| {
        let all = page.hosts.iter().map(|host| unsure(&host.counts));
        all.fold(0u64, u64::saturating_add)
    };
    if sum(before) == sum(now) {
        return false;
    }
    let known = Names::of(before.hosts.iter().map(|host| host.address.as_str()));
    now.hosts.iter().any(|host| {
        let before = known
            .last(&host.address)
            .and_then(|at| before.hosts.get(at));
        let before = before.map(|host| host.counts).unwrap_or_default();
        unsure(&host.counts) > unsure(&before) && host.counts.successes <= before.successes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(counts: &[(&str, u64)]) -> Statuses {
        let line = |(name, count): &(&str, u64)| format!("cluster.a.b.{name}: {count}\n");
        let body: String = counts.iter().map(line).collect();
        read("a.b", body.as_bytes()).unwrap()
    }

    #[test]
    fn gateway_failures_are_told_from_what_envoy_merely_counts_as_errors() {
        let seen = lines(&[
            ("retry.upstream_rq_503", 100),
            ("retry.upstream_rq_429", 1),
            ("retry.upstream_rq_500", 2),
            ("retry.upstream_rq_200", 7),
            ("upstream_rq_200", 50),
            ("upstream_rq_404", 60),
            ("upstream_rq_500", 4),
            ("upstream_rq_501", 8),
            ("upstream_rq_502", 200),
            ("upstream_rq_504", 200),
        ]);
        assert_eq!((seen.answers, seen.retried_ok), (15, 7));
        assert_eq!(read("a", b"").unwrap(), Statuses::default());
        for wrong in [
            "cluster.other.upstream_rq_200: 1",
            "cluster.a.upstream_rq_2xx: 1",
            "cluster.a.upstream_rq_200: many",
            "<html>",
        ] {
            assert!(read("a", wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn growth_is_since_a_reading_from_before_the_last_page() {
        let at = |retried, completed| {
            lines(&[
                ("retry.upstream_rq_409", retried),
                ("upstream_rq_200", completed),
            ])
        };
        let mut readings = Readings::default();
        let mut look = |statuses: Option<Option<Statuses>>| {
            readings.begin_look();
            if let Some(statuses) = statuses {
                readings.take(statuses);
            }
            readings.growth().map(|growth| growth.answers)
        };
        assert_eq!(look(Some(Some(at(1, 1)))), None, "nothing to compare with");
        assert_eq!(look(Some(Some(at(2, 1)))), None, "after the last page");
        assert_eq!(look(Some(Some(at(4, 1)))), Some(3));
        assert_eq!(look(Some(Some(at(8, 1)))), Some(6));
        assert_eq!(look(None), None, "not asked");
        assert_eq!(look(Some(Some(at(16, 1)))), Some(8));
        assert_eq!(look(Some(Some(at(0, 1)))), None, "started anew");
        assert_eq!(look(Some(None)), None);
        assert_eq!(look(Some(Some(at(1, 0)))), None);
        assert_eq!(look(None), None);
        assert_eq!(look(Some(Some(at(1, 0)))), None, "Envoy does not keep them");
    }

    #[test]
    fn statuses_decide_where_a_host_has_errors_of_an_unknown_kind_and_no_success() {
        let page = |hosts: &[(u64, u64, u64)]| {
            let host = |(n, (errors, sure, successes)): (usize, &(u64, u64, u64))| {
                format!(
                    "a::10.0.0.1:{n}::cx_active::0\na::10.0.0.1:{n}::rq_error::{errors}\n\
                     a::10.0.0.1:{n}::rq_timeout::{sure}\na::10.0.0.1:{n}::rq_success::{successes}\n"
                )
            };
            let text: String = hosts.iter().enumerate().map(host).collect();
            super::super::page::read("a", text.as_bytes()).unwrap()
        };
        let before = page(&[(1, 1, 5), (0, 0, 0)]);
        assert!(!decide(&before, &before));
        assert!(
            !decide(&before, &page(&[(4, 4, 5), (0, 0, 0)])),
            "time-outs"
        );
        assert!(!decide(&before, &page(&[(4, 1, 6), (0, 0, 0)])), "it works");
        assert!(decide(&before, &page(&[(4, 1, 5), (0, 0, 1)])));
        assert!(decide(&before, &page(&[(1, 1, 5), (0, 0, 0), (1, 0, 0)])));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            drop(read("a", &bytes));
        }
    }
}
