//! Requests that wait for a connection count as in flight: Envoy's own count lacks them.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use unitring_tests::shell::Shell;
use unitring_tests::site::Site;

#[tokio::test]
async fn a_burst_on_cold_connections_is_within_the_capacity_from_its_first_request() -> Result<()> {
    for workers in [1, 2] {
        let load = json!({"balance_factor": 125, "min_capacity": 20, "scope": "process"});
        let site = Site::start_in(Shell::Native, workers, |config| {
            config.patient()?.setting("load", load)
        })
        .await?;
        // Nothing was connected yet.
        let burst = (0..60).map(|_| {
            let request = site.envoy.request("/?stream_ms=60000");
            request.header("x-user-id", "hot").send()
        });
        let held = try_join_all(burst).await?;
        let mut peaks = Vec::new();
        for instance in &site.instances {
            peaks.push(instance.load().await?.peak);
        }
        peaks.sort_unstable();
        ensure!(peaks.iter().sum::<u64>() == 60, "{peaks:?}");
        ensure!(
            peaks.iter().all(|peak| *peak <= 20),
            "{workers} workers: {peaks:?}"
        );
        drop(held);
    }
    Ok(())
}

#[tokio::test]
async fn max_in_flight_holds_in_a_burst_on_cold_connections() -> Result<()> {
    let load = json!({"balance_factor": 0, "max_in_flight": 5, "scope": "process"});
    let site = Site::start_in(Shell::Native, 2, |config| {
        config.patient()?.setting("load", load)
    })
    .await?;
    let burst = (0..40).map(|_| {
        let request = site.envoy.request("/?stream_ms=60000");
        request.header("x-user-id", "hot").send()
    });
    let held = try_join_all(burst).await?;
    let served = held.iter().filter(|answer| answer.status() == 200).count();
    ensure!(served == 20, "{served} of 40 served");
    for instance in &site.instances {
        let peak = instance.load().await?.peak;
        ensure!(peak == 5, "{}: {peak}", instance.id);
    }
    drop(held);
    Ok(())
}
