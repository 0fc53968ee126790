//! Whether Envoy keeps the filter's stats: a `stats_matcher` may exclude all of them, or some.
//!
//! A stat that Envoy excludes takes every call and reads 0. A gauge is raised, read and lowered
//! again, and only if it reads 0 and has not been checked yet, so that a real count is not
//! disturbed. A counter cannot be lowered, so it is lost if it reads 0 just after this VM has added to it.

use super::{Counter, Gauge, InstanceStats, Sides, Total, increment};

impl Counter {
    pub(super) fn is_lost(&self) -> bool {
        self.is_kept.get() == Some(false)
    }
}

impl Gauge {
    fn is_lost(&self) -> bool {
        if self.show() > 0 {
            return false;
        }
        self.raise();
        let is_lost = self.show() == 0;
        increment(self.id, -1);
        is_lost
    }
}

impl Total {
    pub(super) fn is_lost(&self, sides: Sides) -> bool {
        self.in_flight.on(sides.side).is_lost()
    }
}

impl InstanceStats {
    /// Sets the failures since the last success.
    pub(in super::super) fn set_row(&self, failures: u64) {
        let failures = usize::try_from(failures).unwrap_or(usize::MAX);
        self.failures_in_row.set(failures);
        self.row_lost
            .set(failures > 0 && self.failures_in_row.show() == 0);
    }

    /// The last part of the name of a stat that Envoy does not keep.
    pub(in super::super) fn lost(&self, sides: Sides) -> Option<&'static str> {
        if !self.is_kept.get() {
            if self.in_flight.on(sides.side).is_lost() {
                return Some("in_flight");
            }
            self.is_kept.set(true);
        }
        if self.row_lost.get() {
            return Some("failures_in_row");
        }
        let counters = [
            ("calls", &self.calls),
            ("failures", &self.failures),
            ("updates", &self.updates),
        ];
        let mut counters = counters.into_iter();
        let lost = counters.find(|(_, counter)| counter.is_lost());
        lost.map(|(name, _)| name)
    }
}
