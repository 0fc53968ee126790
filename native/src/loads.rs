//! Requests in flight on a host: requests with a connection, by Envoy's count, and requests that wait for one.
//!
//! Envoy's count of a host (`rq_active`) is over all workers, but a request that waits for a connection is not in
//! it. In a burst that would let any number of requests onto one host before the first is counted. So the module
//! counts its picks of each host, too. A pick gets into Envoy's total (`rq_total`) once it has a connection; those
//! that are missing there wait.
//!
//! A pick may never get there: its connection was refused, or its client left. Refused ones are in another of Envoy's
//! counts. All others that are missing count as waiting for about a second.

use std::sync::atomic::{AtomicU64, Ordering};

/// Envoy's counts of a host, over all workers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Attempts that got a connection. Read before `active`: an attempt that gets one in between is then counted
    /// twice, and not never.
    pub total: u64,
    /// Connections that failed; each ends an attempt that waited for it.
    pub refused: u64,
    /// Attempts that have a connection now.
    pub active: u64,
}

/// The picks of one host, by all workers. It lives as long as the host is known.
#[derive(Debug, Default)]
pub struct Picks {
    count: AtomicU64,
    /// The second in which `newer` was set.
    second: AtomicU64,
    /// Picks minus the requests that Envoy knows to have ended or got a connection, at the start of this second and of
    /// the one before. Wrapping differences.
    newer: AtomicU64,
    older: AtomicU64,
    /// Envoy's counts at the last query.
    known: AtomicU64,
}

/// Envoy's counts of a host only grow. Two threads that read them at the same time differ by less than this; where
/// they are smaller by more, the host is another one at the same address.
const RACE_MAX: u64 = 64;

impl Picks {
    #[inline]
    pub fn add(&self) {
        // Nothing else is published by these numbers, and each is exact by itself.
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub fn take_back(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// In flight, now that Envoy counts this. `own`: how many of the picks are the caller's, for which Envoy has had no
    /// time yet.
    #[inline]
    pub fn in_flight(&self, seen: &Seen, second: u64, own: u64) -> u64 {
        seen.active.saturating_add(self.waiting(seen, second, own))
    }

    /// How many picks wait for a connection.
    #[inline]
    fn waiting(&self, seen: &Seen, second: u64, own: u64) -> u64 {
        let known = seen.total.wrapping_add(seen.refused);
        let gap = self.count.load(Ordering::Relaxed).wrapping_sub(known);
        let last = self.second.load(Ordering::Relaxed);
        let before = self.known.swap(known, Ordering::Relaxed);
        if known.saturating_add(RACE_MAX) < before {
            self.begin_anew(gap.wrapping_sub(own));
        }
        if last != second {
            self.turn(gap.wrapping_sub(own), last, second);
        }
        // The gap grows by picks that wait, and shrinks by attempts of an earlier second that got a connection.
        let waiting = gap.wrapping_sub(self.older.load(Ordering::Relaxed));
        u64::try_from(waiting.cast_signed()).unwrap_or(0)
    }

    /// Begins another second. One of the threads that see it first does it.
    #[cold]
    fn turn(&self, gap: u64, last: u64, second: u64) {
        let relaxed = Ordering::Relaxed;
        let first = self.second.compare_exchange(last, second, relaxed, relaxed);
        if first.is_err() {
            return;
        }
        let newer = self.newer.swap(gap, relaxed);
        let is_next = second.wrapping_sub(last) == 1;
        self.older.store(if is_next { newer } else { gap }, relaxed);
    }

    #[cold]
    fn begin_anew(&self, gap: u64) {
        self.newer.store(gap, Ordering::Relaxed);
        self.older.store(gap, Ordering::Relaxed);
    }
}

/// In flight on all hosts of a service, summed now and then.
///
/// A sum over a thousand hosts for each pick would cost more than the rest of the pick. Between two sums the total
/// grows by the picks since, and does not shrink. It is summed again after a quarter as many picks as there are
/// hosts, so that it is too high by a quarter of a request for each host at most, and after a tenth of a second.
#[derive(Debug, Default)]
pub struct Total {
    sum: AtomicU64,
    picks: AtomicU64,
    at_ms: AtomicU64,
}

const SUM_EVERY_MS: u64 = 100;

impl Total {
    /// Counts a pick that is now part of the total.
    #[inline]
    pub fn add(&self) {
        self.picks.fetch_add(1, Ordering::Relaxed);
    }

    /// The total; `sum` sums it.
    #[inline]
    pub fn get(&self, hosts: usize, now_ms: u64, sum: impl FnOnce() -> u64) -> u64 {
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

    /// Attempts that have a connection and have not ended.
    fn connected(count: u64) -> Seen {
        Seen {
            active: count,
            total: count,
            ..Seen::default()
        }
    }

    fn picked(count: u64) -> Picks {
        let picks = Picks::default();
        (0..count).for_each(|_| picks.add());
        picks
    }

    #[test]
    fn picks_without_a_connection_wait_and_count_no_longer_once_they_have_one() {
        let picks = picked(1);
        assert_eq!(picks.waiting(&connected(0), 7, 1), 1);
        (0..19).for_each(|_| picks.add());
        assert_eq!(picks.waiting(&connected(0), 7, 1), 20);
        assert_eq!(picks.in_flight(&connected(5), 7, 1), 20);
        assert_eq!(picks.waiting(&connected(20), 7, 0), 0);
        picks.add();
        picks.take_back();
        assert_eq!(picks.waiting(&connected(20), 7, 0), 0);
    }

    #[test]
    fn picks_that_never_get_a_connection_are_forgotten_after_a_second_or_two() {
        let picks = picked(1);
        let waiting = |second| picks.waiting(&connected(0), second, 1);
        assert_eq!(waiting(1), 1);
        (0..9).for_each(|_| picks.add());
        assert_eq!(waiting(1), 10);
        picks.add();
        assert_eq!(waiting(2), 11, "the second before still counts");
        picks.add();
        assert_eq!(waiting(3), 2);
        picks.add();
        assert_eq!(waiting(9), 1, "after a pause only the present one");
    }

    #[test]
    fn a_refused_connection_is_over_at_once() {
        let picks = picked(1);
        assert_eq!(picks.waiting(&Seen::default(), 1, 1), 1);
        (0..9).for_each(|_| picks.add());
        let refused = Seen {
            refused: 10,
            ..Seen::default()
        };
        assert_eq!(picks.waiting(&refused, 1, 0), 0);
        picks.add();
        assert_eq!(picks.waiting(&refused, 1, 1), 1);
    }

    #[test]
    fn clients_that_leave_and_connections_that_end_do_not_make_it_more() {
        let picks = picked(1);
        assert_eq!(picks.waiting(&connected(0), 1, 1), 1);
        (0..9).for_each(|_| picks.add());
        // All ten got a connection and are gone, without a result that Envoy counts.
        let gone = Seen {
            total: 10,
            ..Seen::default()
        };
        assert_eq!(picks.waiting(&gone, 1, 0), 0);
    }

    #[test]
    fn another_host_at_the_same_address_begins_anew() {
        let picks = picked(500);
        assert_eq!(picks.waiting(&connected(500), 1, 0), 0);
        picks.add();
        assert_eq!(picks.waiting(&connected(0), 1, 1), 1);
        (0..4).for_each(|_| picks.add());
        assert_eq!(picks.waiting(&connected(2), 1, 1), 3);
    }

    #[test]
    fn who_looks_on_without_a_pick_sees_none() {
        let picks = Picks::default();
        assert_eq!(picks.waiting(&connected(5), 1, 0), 0);
        picks.add();
        assert_eq!(picks.waiting(&connected(6), 1, 0), 0);
        assert_eq!(picks.waiting(&connected(6), 9, 0), 0);
    }

    #[test]
    fn attempts_that_waited_for_longer_never_make_it_negative() {
        let picks = picked(5);
        picks.waiting(&connected(0), 1, 1);
        picks.add();
        assert_eq!(picks.waiting(&connected(9), 3, 1), 1);
        assert_eq!(picks.waiting(&connected(30), 3, 0), 0);
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
