//! The fleet's load is the sum of the loads of its living Envoys.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Response;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;

/// Starts requests that do not end by themselves.
async fn hold(envoy: &Envoy, count: usize) -> Result<Vec<Response>> {
    let requests = (0..count).map(|number| {
        let request = envoy.request("/?stream_ms=120000");
        request.header("x-user-id", format!("user-{number}")).send()
    });
    Ok(try_join_all(requests).await?)
}

async fn carries(companion: &Companion, reporters: usize, in_flight: u64) -> Result<()> {
    let what = format!("{in_flight} in flight, told by {reporters}");
    until(&what, async || {
        let service = companion.get("/v1/services/orders").await?;
        let list = |name| {
            service
                .get(name)
                .and_then(Value::as_array)
                .context("no list")
        };
        let loads = list("instances")?
            .iter()
            .filter_map(|instance| instance["in_flight"].as_u64());
        let seen = (list("reporters")?.len(), loads.sum::<u64>());
        ensure!(seen == (reporters, in_flight), "{service}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_envoy_that_is_killed_leaves_the_fleets_load() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let companion = Settings::default().start().await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .companion(&companion)?
        .setting("companion.interval", json!("250ms"))?;
    let mut envoys = [Envoy::start(&config).await?, Envoy::start(&config).await?];
    for envoy in &envoys {
        envoy.steers_to(4).await?;
    }
    let held = [hold(&envoys[0], 12).await?, hold(&envoys[1], 8).await?];
    carries(&companion, 2, 20).await?;

    // A killed process gives no requests back: its reports end, and with them its share.
    envoys[0].kill()?;
    carries(&companion, 1, 8).await?;
    drop(held);
    carries(&companion, 1, 0).await
}
