//! Invariant 5: no request fails because the companion or its Redis is away.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::Value;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::until;
use unitring_tests::redis::Redis;
use unitring_tests::site::Site;

#[tokio::test]
async fn requests_flow_while_the_companion_is_away_and_a_counter_says_so() -> Result<()> {
    let mut site = Site::start().await?;
    let before = site.envoy.get("ada").await?.instance;
    site.companion.kill()?;
    let failed = async || {
        site.envoy
            .stat("wasmcustom.unitring.orders.report.failed")
            .await
    };
    let start = failed().await?;
    until("the counter to grow", async || {
        let answer = site.envoy.get("ada").await?;
        assert_eq!(
            (answer.status, answer.instance.as_str()),
            (200, before.as_str())
        );
        ensure!(failed().await? > start, "it has not");
        Ok(())
    })
    .await?;
    site.companion.restart().await?;
    let sent = async || {
        site.envoy
            .stat("wasmcustom.unitring.orders.report.sent")
            .await
    };
    let start = sent().await?;
    until("reports to be taken again", async || {
        assert_eq!(site.envoy.get("ada").await?.status, 200);
        ensure!(sent().await? > start, "none");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn while_redis_is_away_the_companion_says_so_and_heals_by_itself() -> Result<()> {
    let mut redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).start().await?;
    companion.is_ready().await?;
    companion.put_record("ada", "1").await?;
    redis.kill()?;
    until("the companion to notice", async || {
        let response = companion.call(Method::GET, "/readyz", vec![]).await?;
        let status = response.status().as_u16();
        let told: Value = response.json().await?;
        ensure!(
            status == 503 && told["checks"]["store"] != "ok",
            "{status}: {told}"
        );
        let checks = told["checks"].as_object().context("no checks")?;
        assert_eq!(checks.len(), 1, "a unit without peers has no link: {told}");
        Ok(())
    })
    .await?;
    let response = companion
        .call(Method::PUT, "/v1/data/profiles/ada", b"2".to_vec())
        .await?;
    assert_eq!(response.status().as_u16(), 503);
    let told: Value = response.json().await?;
    assert!(told.to_string().to_lowercase().contains("store"), "{told}");
    // The companion is alive: its supervisor should not restart it.
    assert!(
        companion
            .call(Method::GET, "/healthz", vec![])
            .await?
            .status()
            .is_success()
    );

    redis.restart().await?;
    companion.is_ready().await?;
    companion.has_record("ada", "1").await?;
    companion.put_record("ada", "3").await?;
    companion.has_record("ada", "3").await
}
