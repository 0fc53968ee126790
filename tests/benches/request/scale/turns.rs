//! How long a turn of the workers' event loops takes, by Envoy's own clock. During a turn the worker
//! serves no other connection.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::Envoy;

const STAT: &str = "dispatcher.loop_duration_us";
/// The resolution of a turn's length; `STEPS` of it are the maximum.
pub(super) const STEP_US: u64 = 200;
const STEPS: u64 = 250;
/// Envoy merges the workers' histograms after a request for them, and answers before it has finished.
const GATHERED: Duration = Duration::from_millis(100);

/// The turns so far, of all workers, by their length in steps.
pub(super) struct Turns(BTreeMap<u64, u64>);

#[derive(Deserialize)]
struct Stats {
    stats: Vec<Histograms>,
}

#[derive(Deserialize)]
struct Histograms {
    histograms: Vec<Histogram>,
}

#[derive(Deserialize)]
struct Histogram {
    buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
struct Bucket {
    cumulative: u64,
}

/// The configuration with the measurement of turns.
pub(super) fn measured(config: EnvoyConfig) -> Result<EnvoyConfig> {
    let mut buckets: Vec<u64> = (1..=STEPS).map(|step| step * STEP_US).collect();
    // The bucket for longer turns.
    buckets.push(u64::from(u32::MAX));
    let settings = json!([{"match": {"suffix": STAT}, "buckets": buckets}]);
    config
        .field("enable_dispatcher_stats", json!(true))?
        .field("stats_flush_on_admin", json!(true))?
        .field(
            "stats_config",
            json!({"histogram_bucket_settings": settings}),
        )
}

impl Turns {
    pub(super) async fn so_far(envoy: &Envoy) -> Result<Self> {
        let page = format!("/stats?filter=worker_.*{STAT}&histogram_buckets=disjoint&format=json");
        envoy.admin(&page).await?;
        tokio::time::sleep(GATHERED).await;
        let stats: Stats = serde_json::from_str(&envoy.admin(&page).await?)?;
        let mut turns = BTreeMap::new();
        for histogram in stats.stats.iter().flat_map(|stats| &stats.histograms) {
            for (step, bucket) in (1..).zip(&histogram.buckets) {
                *turns.entry(step).or_default() += bucket.cumulative;
            }
        }
        ensure!(
            turns.values().any(|count| *count > 0),
            "no turn was measured"
        );
        Ok(Self(turns))
    }

    /// The longest turn in milliseconds, rounded up to a step.
    pub(super) fn longest_since(&self, before: &Self) -> Result<f64> {
        let mut steps = self.0.iter().rev();
        let longest = steps.find(|(step, count)| before.0.get(step) != Some(count));
        let (step, _) = longest.context("no turn since")?;
        Ok(f64::from(u32::try_from(step * STEP_US)?) / 1e3)
    }
}
