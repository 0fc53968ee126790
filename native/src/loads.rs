//! Requests in flight on a host: those that have a connection, by Envoy's count, and those that wait for one.
//!
//! Envoy's count of a host (`rq_active`) is over all workers, but a request that waits for a connection is not in
//! it. In a burst that would let any number of requests onto one host before the first is counted. So the module
//! counts its picks of each host, too. A pick gets into Envoy's total (`rq_total`) once it has a connection; those
//! that are missing there wait.
//!
//! A pick may never get there: its connection was refused, its client left. So only the picks of about the last
//! second count as waiting.

use std::sync::atomic::{AtomicU64, Ordering};

/// The picks of one host, by all workers. It lives as long as the host is known, whatever else changes.
#[derive(Debug, Default)]
pub(crate) struct Picks {
    count: AtomicU64,
    /// The second in which `newer` was set.
    second: AtomicU64,
    /// Picks minus Envoy's total when this second began, and when the one before it did. Wrapping differences.
    newer: AtomicU64,
    older: AtomicU64,
}

impl Picks {
    /// Counts a pick.
    #[inline]
    pub(crate) fn add(&self) {
        // Nothing else is published by these numbers, and each is exact by itself.
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a pick back.
    #[inline]
    pub(crate) fn take_back(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many picks wait for a connection, now that Envoy's total is this. `own`: how many of them are picks of
    /// the caller, for which Envoy has had no time yet.
    #[inline]
    pub(crate) fn waiting(&self, total: u64, second: u64, own: u64) -> u64 {
        let gap = self.count.load(Ordering::Relaxed).wrapping_sub(total);
        let seen = self.second.load(Ordering::Relaxed);
        if seen != second {
            self.turn(gap.wrapping_sub(own), seen, second);
        }
        // The gap grows by picks that wait, and shrinks by attempts of an earlier second that got a connection.
        let waiting = gap
            .wrapping_sub(self.older.load(Ordering::Relaxed))
            .cast_signed();
        u64::try_from(waiting).unwrap_or(0)
    }

    /// Begins another second. One of the threads that see it first does it.
    #[cold]
    fn turn(&self, gap: u64, seen: u64, second: u64) {
        let first =
            self.second
                .compare_exchange(seen, second, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err() {
            return;
        }
        let newer = self.newer.swap(gap, Ordering::Relaxed);
        let older = if second.wrapping_sub(seen) == 1 {
            newer
        } else {
            gap
        };
        self.older.store(older, Ordering::Relaxed);
    }
}

/// In flight on all hosts of a service, summed now and then.
///
/// A sum over a thousand hosts for each pick would cost more than the rest of the pick. Between two sums the total
/// grows by the picks since, and does not shrink. It is summed again after a quarter as many picks as there are
/// hosts, so that it is too high by a quarter of a request for each host at most, and after a tenth of a second.
#[derive(Debug, Default)]
pub(crate) struct Total {
    sum: AtomicU64,
    picks: AtomicU64,
    at_ms: AtomicU64,
}

const SUM_EVERY_MS: u64 = 100;

impl Total {
    /// Counts a pick that is now part of the total.
    #[inline]
    pub(crate) fn add(&self) {
        self.picks.fetch_add(1, Ordering::Relaxed);
    }

    /// The total; `sum` sums it.
    #[inline]
    pub(crate) fn get(&self, hosts: usize, now_ms: u64, sum: impl FnOnce() -> u64) -> u64 {
        let picks = self.picks.load(Ordering::Relaxed);
        let many = picks.saturating_mul(4) >= u64::try_from(hosts).unwrap_or(u64::MAX);
        let age_ms = now_ms.wrapping_sub(self.at_ms.load(Ordering::Relaxed));
        if !many && age_ms < SUM_EVERY_MS {
            return self.sum.load(Ordering::Relaxed).saturating_add(picks);
        }
        let sum = sum();
        // Another worker may do this at the same time. Then one of two sums counts that differ by a few picks.
        self.sum.store(sum, Ordering::Relaxed);
        self.picks.store(0, Ordering::Relaxed);
        self.at_ms.store(now_ms, Ordering::Relaxed);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_without_a_connection_wait_and_count_no_longer_once_they_have_one() {
        let picks = Picks::default();
        let (mut total, second) = (1_000, 7);
        picks.add();
        assert_eq!(picks.waiting(total, second, 1), 1);
        for _ in 0..19 {
            picks.add();
        }
        assert_eq!(picks.waiting(total, second, 1), 20);
        total += 20;
        assert_eq!(picks.waiting(total, second, 1), 0);
        picks.add();
        picks.take_back();
        assert_eq!(picks.waiting(total, second, 0), 0);
    }

    #[test]
    fn picks_that_never_get_a_connection_are_forgotten_after_a_second_or_two() {
        let picks = Picks::default();
        picks.add();
        assert_eq!(picks.waiting(0, 1, 1), 1);
        for _ in 0..9 {
            picks.add();
        }
        assert_eq!(picks.waiting(0, 1, 1), 10);
        picks.add();
        assert_eq!(picks.waiting(0, 2, 1), 11, "the second before still counts");
        picks.add();
        assert_eq!(picks.waiting(0, 3, 1), 2);
        picks.add();
        assert_eq!(
            picks.waiting(0, 9, 1),
            1,
            "after a pause only the present one"
        );
    }

    #[test]
    fn who_looks_on_without_a_pick_sees_none() {
        let picks = Picks::default();
        assert_eq!(picks.waiting(5, 1, 0), 0);
        picks.add();
        assert_eq!(picks.waiting(6, 1, 0), 0);
        assert_eq!(picks.waiting(6, 9, 0), 0);
    }

    #[test]
    fn attempts_that_waited_for_longer_never_make_it_negative() {
        let picks = Picks::default();
        for _ in 0..5 {
            picks.add();
        }
        picks.waiting(0, 1, 1);
        picks.add();
        assert_eq!(picks.waiting(9, 3, 1), 1);
        assert_eq!(picks.waiting(30, 3, 1), 0);
    }

    #[test]
    fn a_total_is_summed_again_after_a_quarter_of_the_hosts_or_a_tenth_of_a_second() {
        let total = Total::default();
        let never = || unreachable!("it was summed just now");
        assert_eq!(total.get(1_000, 500, || 70), 70);
        assert_eq!(total.get(1_000, 550, never), 70);
        for _ in 0..249 {
            total.add();
        }
        assert_eq!(total.get(1_000, 599, never), 319);
        total.add();
        assert_eq!(total.get(1_000, 599, || 200), 200);
        assert_eq!(total.get(1_000, 700, || 3), 3);
        total.add();
        assert_eq!(total.get(4, 700, || 4), 4, "few hosts are summed each time");
    }
}
