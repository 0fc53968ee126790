//! The oldest supported Envoy runs the shipped configuration like the newest.
//!
//! A part of `make compat` that every run of the tests includes.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys, send};
use unitring_tests::instance::Instance;
use unitring_tests::page_part::with;

/// The version in the Makefile, which fetches it.
const OLDEST: &str = "1.36.4";

async fn start(config: &EnvoyConfig) -> Result<Envoy> {
    let envoy = Envoy::start_version(OLDEST, config).await?;
    assert_eq!(envoy.version().await?, OLDEST);
    Ok(envoy)
}

#[tokio::test]
async fn the_oldest_envoys_ring_hash_is_what_the_filter_places_by() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[1, 2, 3, 1])?;
    let native = start(&config.clone().without_filter()?).await?;
    native.has_healthy(instances.len()).await?;
    let filtered = start(&config).await?;
    filtered.steers_to(instances.len()).await?;
    let keys = keys(400);
    assert_eq!(filtered.owners(&keys).await?, native.owners(&keys).await?);
    let answer = filtered.get("user-0").await?;
    assert_eq!(answer.header("x-unitring-reason"), Some("primary"));
    Ok(())
}

#[tokio::test]
async fn retries_of_the_oldest_envoy_go_to_the_candidates_in_turn() -> Result<()> {
    let mut instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .unchecked()?
        .setting("ejection.consecutive_failures", json!(0))?;
    let envoy = start(&config).await?;
    envoy.steers_to(instances.len()).await?;
    let dead = instances.pop().context("no instance")?.address();
    let mut retried = 0;
    for key in keys(120) {
        let answer = envoy.get(&key).await?;
        let named = answer.body["headers"]["x-unitring-host"][0].as_str();
        let named: Vec<&str> = named.unwrap_or_default().split(',').collect();
        let first = instances.iter().find(|i| i.id == answer.instance);
        let ran_at = first.context("nobody answered")?.address();
        let expected = if named.first() == Some(&dead.as_str()) {
            retried += 1;
            named.get(1)
        } else {
            named.first()
        };
        let expected = (200, expected.copied());
        assert_eq!(
            (answer.status, Some(ran_at.as_str())),
            expected,
            "{named:?}"
        );
    }
    ensure!(retried > 5, "only {retried} keys belonged to the dead one");
    assert_eq!(
        envoy.stat("cluster.orders.upstream_rq_retry").await?,
        retried
    );
    Ok(())
}

#[tokio::test]
async fn the_oldest_envoys_access_log_shows_the_choice() -> Result<()> {
    let instances = Instance::start_all(&["a", "b"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let config = with(config, "settings.md", "access-log")?;
    let envoy = start(&with(config, "settings.md", "access-log-of-others")?).await?;
    envoy.steers_to(instances.len()).await?;
    envoy.get("ada").await?;
    send(envoy.request("/keyless")).await?;
    let expected = [
        r#""reason":"primary""#,
        r#""reason":"fallback.no_key""#,
        "/keyless 200 fallback.no_key - 127.0.0.1:",
    ];
    until("the lines", async || {
        let log = envoy.log();
        let missing = expected.iter().find(|part| !log.contains(**part));
        ensure!(missing.is_none(), "{missing:?}");
        Ok(())
    })
    .await
}
