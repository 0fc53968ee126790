//! One report per Envoy process and interval, whatever the number of its VMs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use unitring_tests::companion::Settings;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;

#[tokio::test]
async fn an_envoy_with_two_workers_reports_once_per_interval() -> Result<()> {
    let instances = Instance::start_all(&["a", "b"]).await?;
    let companion = Settings::default().start().await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .companion(&companion)?;
    let envoy = Envoy::start_with_workers(&config, 2).await?;
    envoy.steers_to(2).await?;
    let sent = async || envoy.stat("wasmcustom.unitring.orders.report.sent").await;

    let start = Instant::now();
    let first = until("the first report", async || {
        let count = sent().await?;
        ensure!(count > 0, "none");
        Ok(count)
    })
    .await?;
    let last = until("ten more", async || {
        let count = sent().await?;
        ensure!(count >= first + 10, "{count}");
        Ok(count)
    })
    .await?;
    // The shipped interval is a second; a timer may fire a little early, but reports of three VMs would
    // be three times as many.
    let most = u64::try_from(start.elapsed().as_millis())? / 700 + 2;
    assert!(
        last - first <= most,
        "{} reports in {:?}",
        last - first,
        start.elapsed()
    );
    // Those of three VMs would take three to four seconds. The answer to the first may have come seconds late, so that
    // the next ones follow sooner.
    assert!(
        start.elapsed() > Duration::from_secs(5),
        "ten reports in {:?}",
        start.elapsed()
    );

    let service = companion.get("/v1/services/orders").await?;
    let reporters = service
        .get("reporters")
        .and_then(Value::as_array)
        .map(Vec::len);
    assert_eq!(reporters, Some(1), "{service}");
    Ok(())
}
