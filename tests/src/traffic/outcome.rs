//! The outcome of the requests of a load. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::statistics::quantile;

/// Answers with their latencies, and failures.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Answers by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by the reason.
    pub failures: BTreeMap<String, u64>,
    latencies: Vec<Duration>,
}

impl Outcome {
    /// Counts an answer that came this long after the request was due.
    pub fn answered(&mut self, status: u16, latency: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        self.latencies.push(latency);
    }

    /// Counts a request without an answer.
    pub fn failed(&mut self, reason: String) {
        *self.failures.entry(reason).or_default() += 1;
    }

    /// Adds another outcome.
    pub fn merge(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (reason, count) in other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
        self.latencies.extend(other.latencies);
    }

    /// The number of requests that ended.
    pub fn requests(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.failures.values().sum::<u64>()
    }

    /// The number of errors in a client's sense: no answer, or a status of 500 and more.
    pub fn errors(&self) -> u64 {
        let bad = self.statuses.range(500..).map(|(_, count)| count);
        bad.sum::<u64>() + self.failures.values().sum::<u64>()
    }

    /// The latency within which this share of the answers came: `0.99` for the 99th percentile. Nearest
    /// rank, so it is a measured latency; zero without answers.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        quantile(&sorted, share).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(statuses: &[u16]) -> Outcome {
        let mut outcome = Outcome::default();
        for (status, ms) in statuses.iter().zip(1..) {
            outcome.answered(*status, Duration::from_millis(ms));
        }
        outcome
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let outcome = outcome(&[200; 200]);
        let ms = |share| outcome.quantile(share).as_millis();
        assert_eq!((ms(0.0), ms(0.5), ms(0.99), ms(1.0)), (1, 100, 198, 200));
        assert_eq!(Outcome::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn errors_are_5xx_and_requests_without_an_answer() {
        let mut all = outcome(&[200, 404, 503]);
        all.failed("reset".to_owned());
        all.merge(outcome(&[500, 200]));
        assert_eq!((all.requests(), all.errors()), (6, 3));
        assert_eq!(all.statuses[&200], 2);
    }
}
