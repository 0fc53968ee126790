//! Counters of several samples → rates. Pure.
//!
//! Invariant: a rate is never negative, and what a counter had before it was first seen, or before it began again,
//! is in no rate. So instances that come and go, and a companion whose store is new, show no peak that never was.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Most samples that are kept.
const SAMPLES_MAX: usize = 8;
/// Over how long a rate is taken where samples are frequent: Envoys report once a second, so that the counters of a
/// shorter time jump.
const OVER: Duration = Duration::from_secs(5);

/// A service, and an instance of it.
pub(super) type Key = (String, String);

/// The counters of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
}

/// How they grow, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) calls: f64,
    pub(super) failures: f64,
}

impl Rates {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            failures: self.failures + other.failures,
        }
    }
}

/// The latest samples of counters, the newest last.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(Duration, HashMap<Key, Counts>)>,
}

impl History {
    /// Adds a sample, and forgets samples that are too old for a current rate.
    pub(super) fn push(
        &mut self,
        at: Duration,
        interval: Duration,
        counts: impl Iterator<Item = (Key, Counts)>,
    ) {
        // If intervals are longer, the last one always counts.
        let over = OVER.max(interval.saturating_mul(2));
        let is_old = |(then, _): &(Duration, _)| at.saturating_sub(*then) > over;
        while self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
        self.samples.push_back((at, counts.collect()));
        while self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// The rates of an instance, if there are enough samples.
    pub(super) fn rates(&self, key: &Key) -> Option<Rates> {
        let samples = self.samples.iter().rev();
        rates(samples.map(|(at, counts)| (*at, counts.get(key).copied())))
    }
}

/// The rates between two samples: the newest, and the oldest up to which the counters were there and only grew.
fn rates(newest_first: impl Iterator<Item = (Duration, Option<Counts>)>) -> Option<Rates> {
    let mut samples = newest_first;
    let (now, newest) = samples.next()?;
    let newest = newest?;
    let mut oldest = (now, newest);
    for (at, counts) in samples {
        match counts {
            Some(counts)
                if counts.calls <= oldest.1.calls && counts.failures <= oldest.1.failures =>
            {
                oldest = (at, counts);
            }
            // It was not there yet, or it began again since.
            _ => break,
        }
    }
    let seconds = now.saturating_sub(oldest.0).as_secs_f64();
    let per_second = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
    (seconds > 0.0).then(|| Rates {
        calls: per_second(newest.calls, oldest.1.calls),
        failures: per_second(newest.failures, oldest.1.failures),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        ("orders".to_owned(), "a".to_owned())
    }

    /// The rate of calls after samples at these seconds; without a number the instance is away.
    fn calls(samples: &[(u64, Option<u64>)], interval_s: u64) -> Option<f64> {
        let mut history = History::default();
        for (second, calls) in samples {
            let counts = calls.map(|calls| (key(), Counts { calls, failures: 0 }));
            let interval = Duration::from_secs(interval_s);
            history.push(Duration::from_secs(*second), interval, counts.into_iter());
        }
        history.rates(&key()).map(|rates| rates.calls)
    }

    #[test]
    fn a_rate_is_that_of_the_newest_and_the_oldest_of_the_last_seconds() {
        assert_eq!(calls(&[(0, Some(100)), (1, Some(110))], 1), Some(10.0));
        let steady = [(0, Some(0)), (1, Some(30)), (2, Some(30)), (3, Some(60))];
        assert_eq!(calls(&steady, 1), Some(20.0));
        let old = [(0, Some(0)), (100, Some(1_000)), (101, Some(1_001))];
        assert_eq!(calls(&old, 1), Some(1.0));
        assert_eq!(calls(&[(0, Some(0)), (60, Some(600))], 60), Some(10.0));
    }

    #[test]
    fn one_sample_or_two_at_the_same_moment_have_no_rate() {
        assert_eq!(calls(&[(0, Some(5))], 1), None);
        assert_eq!(calls(&[(1, Some(5)), (1, Some(9))], 1), None);
        assert_eq!(calls(&[], 1), None);
    }

    #[test]
    fn a_counter_that_begins_again_has_neither_a_negative_rate_nor_a_peak() {
        assert_eq!(calls(&[(0, Some(1_000)), (1, Some(3))], 1), None);
        let again = [(0, Some(1_000)), (1, Some(3)), (2, Some(5))];
        assert_eq!(calls(&again, 1), Some(2.0));
        // It passes its old value at once, which looks the same as calls.
        assert_eq!(calls(&[(0, Some(1)), (1, Some(9))], 1), Some(8.0));
    }

    #[test]
    fn an_instance_that_comes_or_was_away_has_no_rate_of_what_it_counted_before() {
        let comes = [(0, None), (1, Some(1_000_000))];
        assert_eq!(calls(&comes, 1), None);
        let back = [
            (0, Some(10)),
            (1, None),
            (2, Some(1_000_000)),
            (3, Some(1_000_001)),
        ];
        assert_eq!(calls(&back, 1), Some(1.0));
        assert_eq!(calls(&[(0, Some(10)), (1, None)], 1), None);
    }

    #[test]
    fn few_samples_are_kept() {
        let mut history = History::default();
        for ms in 0..1_000 {
            let counts = Counts {
                calls: ms,
                failures: ms,
            };
            let at = Duration::from_millis(ms);
            history.push(at, Duration::ZERO, [(key(), counts)].into_iter());
        }
        assert_eq!(history.samples.len(), SAMPLES_MAX);
        let rates = history.rates(&key()).unwrap();
        assert_eq!((rates.calls, rates.failures), (1_000.0, 1_000.0));
    }
}
