//! An instance's count of its own load. Pure: moments in, numbers out.
//!
//! The average is exact, since the time that requests spend here is added up whenever their number
//! changes. It needs no sampling.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The load of an instance since the last reset, as `GET /__load` returns it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Requests that have started and not ended.
    pub in_flight: u64,
    /// The maximum of `in_flight`.
    pub peak: u64,
    /// Requests that ended, including those whose client went away.
    pub served: u64,
    /// The time average of `in_flight`.
    pub average: f64,
}

/// Counts the requests of an instance. Moments are durations since any fixed start.
#[derive(Debug, Default)]
pub struct Tally {
    in_flight: u64,
    peak: u64,
    served: u64,
    reset_at: Duration,
    changed_at: Duration,
    /// The sum of the times that requests spent here, up to `changed_at`.
    spent: Duration,
}

impl Tally {
    /// Counts the start of a request.
    pub fn start(&mut self, now: Duration) {
        self.pass(now);
        self.in_flight = self.in_flight.saturating_add(1);
        self.peak = self.peak.max(self.in_flight);
    }

    /// Counts the end of a request.
    pub fn end(&mut self, now: Duration) {
        self.pass(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.served = self.served.saturating_add(1);
    }

    /// Forgets the past; requests in flight stay.
    pub fn reset(&mut self, now: Duration) {
        *self = Self {
            in_flight: self.in_flight,
            peak: self.in_flight,
            reset_at: now,
            changed_at: now,
            ..Self::default()
        };
    }

    /// The load up to this moment.
    pub fn load(&mut self, now: Duration) -> Load {
        self.pass(now);
        let watched = now.saturating_sub(self.reset_at);
        let average = self.spent.div_duration_f64(watched);
        Load {
            in_flight: self.in_flight,
            peak: self.peak,
            served: self.served,
            average: if average.is_finite() { average } else { 0.0 },
        }
    }

    fn pass(&mut self, now: Duration) {
        let in_flight = u32::try_from(self.in_flight).unwrap_or(u32::MAX);
        let passed = now.saturating_sub(self.changed_at);
        self.spent = self.spent.saturating_add(passed.saturating_mul(in_flight));
        self.changed_at = now.max(self.changed_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_average_is_the_time_that_requests_spent_over_the_time_that_passed() {
        let mut tally = Tally::default();
        tally.start(at(0));
        tally.start(at(2));
        tally.end(at(4));
        // 2 s with one request, 2 s with two, 4 s with one.
        let load = tally.load(at(8));
        assert_eq!((load.in_flight, load.peak, load.served), (1, 2, 1));
        assert!((load.average - 10.0 / 8.0).abs() < 1e-9, "{load:?}");
    }

    #[test]
    fn a_reset_forgets_the_peak_but_not_what_is_in_flight() {
        let mut tally = Tally::default();
        tally.start(at(0));
        tally.start(at(0));
        tally.end(at(1));
        tally.reset(at(5));
        let load = tally.load(at(5));
        assert_eq!((load.in_flight, load.peak, load.served), (1, 1, 0));
        assert_eq!(load.average, 0.0);
        assert_eq!(tally.load(at(9)).average, 1.0);
    }
}
