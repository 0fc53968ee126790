//! Counters and histograms with labels, whose values this program chooses: so they are few.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use unitring_protocol::ids::UnitId;

/// The outcome of a data update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateOutcome {
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
pub(crate) struct UpdateCounts(Family<[(&'static str, &'static str); 1], Counter<u64>>);

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
    pub(crate) fn count(&self, outcome: UpdateOutcome) {
        self.0.get_or_create(&outcome.label()).inc();
    }
}

/// The upper bounds of the buckets of a histogram.
#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    code: &'static str,
}

/// How long requests took until their answers began.
#[derive(Debug, Clone)]
pub(crate) struct RequestTimes(Family<RequestLabels, Histogram, Buckets>);

/// Up to the time that a request may take, `REQUEST_TIMEOUT` of `http/entry.rs`.
const REQUEST_SECONDS: Buckets = Buckets(&[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0]);

impl Default for RequestTimes {
    fn default() -> Self {
        Self(Family::new_with_constructor(REQUEST_SECONDS))
    }
}

impl RequestTimes {
    /// Measures a request. `route` is the router's pattern of the path, without the client's values; any
    /// other path and any other method is `other`, so that clients cannot invent labels.
    pub(crate) fn took(&self, method: &str, route: Option<&str>, status: u16, time: Duration) {
        let methods = ["GET", "HEAD", "POST", "PUT", "DELETE"];
        let method = methods.into_iter().find(|known| *known == method);
        let labels = RequestLabels {
            method: method.unwrap_or("other"),
            route: route.unwrap_or("other").to_owned(),
            code: match status / 100 {
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                5 => "5xx",
                _ => "other",
            },
        };
        let seconds = time.as_secs_f64();
        self.0.get_or_create(&labels).observe(seconds);
    }
}

/// How long changes of other units took to be applied here.
#[derive(Debug, Clone)]
pub(crate) struct Lags(Family<[(&'static str, String); 1], Histogram, Buckets>);

/// From a message within a room to an outage.
const LAG_SECONDS: Buckets = Buckets(&[
    0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
]);

impl Default for Lags {
    fn default() -> Self {
        Self(Family::new_with_constructor(LAG_SECONDS))
    }
}

impl Lags {
    /// Measures changes of a unit.
    pub(crate) fn took(&self, unit: &UnitId, each_ms: impl Iterator<Item = u64>) {
        let histogram = self.0.get_or_create(&[("unit", unit.to_string())]);
        for ms in each_ms {
            histogram.observe(Duration::from_millis(ms).as_secs_f64());
        }
    }
}

macro_rules! encode_as_family {
    ($($of:ty),*) => {
        $(impl EncodeMetric for $of {
            fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
                self.0.encode(encoder)
            }

            fn metric_type(&self) -> MetricType {
                self.0.metric_type()
            }
        })*
    };
}

encode_as_family!(UpdateCounts, RequestTimes, Lags);
