//! How long the workers' event loops take for a turn, by Envoy's own clock: so long no connection of a worker
//! is served.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::Envoy;

const STAT: &str = "dispatcher.loop_duration_us";
/// How exact a turn is known, and up to where.
pub(super) const STEP_US: u64 = 200;
const STEPS: u64 = 250;
/// Envoy brings the workers' figures together when it is asked, and answers before it has them.
const GATHERED: Duration = Duration::from_millis(100);

/// Turns so far, of all workers, by the steps that they took.
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

/// With an Envoy that measures them.
pub(super) fn measured(config: EnvoyConfig) -> Result<EnvoyConfig> {
    let mut buckets: Vec<u64> = (1..=STEPS).map(|step| step * STEP_US).collect();
    // For all that is longer.
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

    /// In milliseconds, rounded up to a step.
    pub(super) fn longest_since(&self, before: &Self) -> Result<f64> {
        let mut steps = self.0.iter().rev();
        let longest = steps.find(|(step, count)| before.0.get(step) != Some(count));
        let (step, _) = longest.context("no turn since")?;
        Ok(f64::from(u32::try_from(step * STEP_US)?) / 1e3)
    }
}
