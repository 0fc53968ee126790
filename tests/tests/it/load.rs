//! Invariant 4: in-flight returns to zero when traffic stops, whatever happened to the requests.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use unitring_tests::deadline::until;
use unitring_tests::site::Site;

const REQUESTS: usize = 200;

#[tokio::test]
async fn in_flight_returns_to_zero_after_resets_errors_and_clients_that_left() -> Result<()> {
    let site = Site::start().await?;
    let burst = (0..REQUESTS).map(|number| {
        let path = match number % 5 {
            0 => "/?delay_ms=400&reset=1",
            1 => "/?delay_ms=400&status=503",
            2 => "/?delay_ms=60000",
            _ => "/?delay_ms=400",
        };
        let request = site
            .envoy
            .request(path)
            .header("x-user-id", format!("user-{number}"));
        // Those that would take a minute are given up by their clients.
        async { drop(request.timeout(Duration::from_secs(3)).send().await) }
    });
    let watch = until("requests to be in flight", async || {
        let in_flight = site
            .envoy
            .stat("wasmcustom.unitring.orders.in_flight")
            .await?;
        ensure!(in_flight > 0, "none");
        Ok(())
    });
    let (_, seen) = tokio::join!(join_all(burst), watch);
    seen?;
    until("in-flight to be zero everywhere", async || {
        let stats = site.envoy.stats("wasmcustom.unitring.orders.").await?;
        let gauges = stats
            .iter()
            .filter(|(name, _)| name.ends_with(".in_flight"));
        let left: Vec<_> = gauges.clone().filter(|(_, value)| **value != 0).collect();
        ensure!(
            gauges.count() == 5,
            "five gauges, one of the service: {stats:?}"
        );
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}
