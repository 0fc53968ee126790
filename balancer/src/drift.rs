//! An instance's gauge and Envoy's count at the same time → the error of the gauge.
//!
//! The filter counts a request on the first instance that it named, from the request's headers to
//! the end of its stream. A retry, a hedged attempt or a request that was left to Envoy runs
//! elsewhere, and only Envoy's count of each host shows it. The bound uses the current gauge plus
//! its error at the last look.
//!
//! Envoy makes the page between two readings of the gauge, so a count between these readings is no
//! error. An error that makes an instance look emptier must be found twice in a row: while a slow
//! client still reads an answer, the request is over for Envoy's count.

use unitring_routing::names::Names;

use crate::stored::{Stored, stored};

/// The errors of the gauges; instances whose gauge was right are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// In any order, each id once.
    pub instances: Vec<Wrong>,
}

stored!(Drift { instances });

/// The error of one instance's gauge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The id of the instance.
    pub id: String,
    /// Requests in flight that the gauge lacks; negative if the gauge shows too many.
    pub more: i64,
}

stored!(Wrong { id, more });

/// One observation of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    /// The id of the instance.
    pub id: &'a str,
    /// The gauge before the page was asked for, and after it arrived.
    pub gauge: (u64, u64),
    /// Requests in flight by Envoy's page.
    pub in_flight: u64,
}

impl Sample<'_> {
    fn more(&self) -> i64 {
        let (before, after) = self.gauge;
        let over = self.in_flight.saturating_sub(before.max(after));
        let under = before.min(after).saturating_sub(self.in_flight);
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        signed(over).saturating_sub(signed(under))
    }
}

/// The memory from one look to the next.
#[derive(Debug, Default)]
pub struct Drifts {
    /// Instances that looked emptier at the last look.
    under: Vec<Wrong>,
}

impl Drifts {
    /// The drift after this look.
    pub fn look<'a>(&mut self, samples: impl IntoIterator<Item = Sample<'a>>) -> Drift {
        let known = Names::of(self.under.iter().map(|wrong| wrong.id.as_str()));
        let (mut instances, mut under) = (Vec::new(), Vec::new());
        for sample in samples {
            let more = sample.more();
            let wrong = |more| Wrong {
                id: sample.id.to_owned(),
                more,
            };
            if more > 0 {
                instances.push(wrong(more));
            } else if more < 0 {
                under.push(wrong(more));
                let before = known.last(sample.id).and_then(|at| self.under.get(at));
                if let Some(before) = before {
                    instances.push(wrong(more.max(before.more)));
                }
            }
        }
        self.under = under;
        Drift { instances }
    }
}

impl Stored for i64 {
    fn write(&self, to: &mut Vec<u8>) {
        u64::from_le_bytes(self.to_le_bytes()).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some(i64::from_le_bytes(u64::read(from)?.to_le_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(drifts: &mut Drifts, gauge: (u64, u64), in_flight: u64) -> i64 {
        let drift = drifts.look([Sample {
            id: "a",
            gauge,
            in_flight,
        }]);
        drift.instances.first().map_or(0, |wrong| wrong.more)
    }

    #[test]
    fn what_the_gauge_does_not_know_counts_at_once_and_what_it_has_too_much_after_two_looks() {
        let mut drifts = Drifts::default();
        assert_eq!(look(&mut drifts, (2, 2), 5), 3);
        assert_eq!(look(&mut drifts, (2, 2), 2), 0);
        assert_eq!(look(&mut drifts, (5, 5), 1), 0, "once");
        assert_eq!(
            look(&mut drifts, (5, 5), 2),
            -3,
            "twice, the lesser of both"
        );
        assert_eq!(look(&mut drifts, (5, 5), 5), 0);
        assert_eq!(look(&mut drifts, (5, 5), 1), 0);
    }

    #[test]
    fn what_lies_between_the_two_readings_is_no_difference() {
        let mut drifts = Drifts::default();
        for in_flight in 3..=9 {
            assert_eq!(look(&mut drifts, (3, 9), in_flight), 0);
            assert_eq!(look(&mut drifts, (9, 3), in_flight), 0);
        }
        assert_eq!(look(&mut drifts, (3, 9), 11), 2);
    }
}
