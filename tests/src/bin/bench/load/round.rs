//! One system under the load for some seconds, with the load that the instances themselves count.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::statistics::median;
use unitring_tests::tally::Load;
use unitring_tests::traffic::Traffic;

/// How long each system is measured.
pub(crate) const WATCHED: Duration = Duration::from_millis(3_500);

/// The figures of a system; each is a column.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// The highest number of requests in flight that any instance had.
    pub(crate) peak: f64,
    /// The average over all instances and the whole time.
    pub(crate) average: f64,
    /// The time average of the busiest instance.
    pub(crate) busiest: f64,
    /// Answers a second.
    pub(crate) per_second: f64,
    /// Requests that failed.
    pub(crate) errors: f64,
    /// The median latency.
    pub(crate) p50_ms: f64,
    /// The 99th percentile of the latency.
    pub(crate) p99_ms: f64,
}

/// Measures once; all requests in flight have ended when it returns.
pub(crate) async fn measure(
    traffic: &Traffic,
    warm_up: u64,
    envoys: &[&Envoy],
    instances: &[Instance],
) -> Result<Figures> {
    let running = traffic.start(envoys);
    running.passes(warm_up).await?;
    drop(running.take());
    try_join_all(instances.iter().map(Instance::reset_load)).await?;
    tokio::time::sleep(WATCHED).await;
    let loads = try_join_all(instances.iter().map(Instance::load)).await?;
    let outcome = running.take();
    let rest = running.stop().await?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let errors = outcome.errors() + rest.errors();
    Ok(Figures {
        per_second: number(outcome.requests()) / WATCHED.as_secs_f64(),
        errors: number(errors),
        p50_ms: ms(outcome.quantile(0.5)),
        p99_ms: ms(outcome.quantile(0.99)),
        ..Figures::of(&loads)
    })
}

impl Figures {
    fn of(loads: &[Load]) -> Self {
        let count = u32::try_from(loads.len().max(1)).map_or(f64::MAX, f64::from);
        let averages = loads.iter().map(|load| load.average);
        Self {
            peak: loads
                .iter()
                .map(|load| number(load.peak))
                .fold(0.0, f64::max),
            average: averages.clone().sum::<f64>() / count,
            busiest: averages.fold(0.0, f64::max),
            ..Self::default()
        }
    }

    /// Each figure's median over the rounds. A ratio is made of figures of the same round.
    pub(crate) fn row(name: &str, rounds: &[Self]) -> Vec<String> {
        let middle =
            |figure: fn(&Self) -> f64| median(rounds.iter().map(figure)).unwrap_or_default();
        vec![
            name.to_owned(),
            format!("{:.0}", middle(|round| round.peak)),
            format!("{:.2}", middle(|round| round.peak / round.average)),
            format!("{:.2}", middle(|round| round.busiest / round.average)),
            format!("{:.0}", middle(|round| round.per_second)),
            format!(
                "{:.0}",
                rounds.iter().map(|round| round.errors).sum::<f64>()
            ),
            format!("{:.0}", middle(|round| round.p50_ms)),
            format!("{:.0}", middle(|round| round.p99_ms)),
        ]
    }

    /// The heads of [`Self::row`].
    pub(crate) const HEADS: [&str; 8] = [
        "",
        "peak in flight of an instance",
        "peak / average",
        "busiest / average",
        "requests/s",
        "errors",
        "p50 ms",
        "p99 ms",
    ];
}

/// Exact for any number of requests in a round.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
