//! The counter of data updates from filters, by what became of them.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// What became of a data update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// It was made.
    Applied,
    /// It, or a later one of its source, had been made before.
    Repeated,
    /// It breaks a rule, or its sender may not make it: it is refused for good.
    Refused,
    /// It could not be made now, and may be sent again.
    Failed,
}

impl UpdateOutcome {
    const ALL: [Self; 4] = [Self::Applied, Self::Repeated, Self::Refused, Self::Failed];

    /// The label.
    fn label(self) -> [(&'static str, &'static str); 1] {
        let outcome = match self {
            Self::Applied => "applied",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
            Self::Failed => "failed",
        };
        [("outcome", outcome)]
    }
}

/// A counter for each outcome; all are shown from the start.
#[derive(Debug, Clone)]
pub struct UpdateCounts(Family<[(&'static str, &'static str); 1], Counter<u64>>);

impl Default for UpdateCounts {
    fn default() -> Self {
        let counts = Family::default();
        for outcome in UpdateOutcome::ALL {
            drop(counts.get_or_create(&outcome.label()));
        }
        Self(counts)
    }
}

impl UpdateCounts {
    /// Counts an update.
    pub fn count(&self, outcome: UpdateOutcome) {
        self.0.get_or_create(&outcome.label()).inc();
    }
}

impl EncodeMetric for UpdateCounts {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}
