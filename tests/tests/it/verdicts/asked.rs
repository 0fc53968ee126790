//! What the filter asks Envoy for a verdict, and whose verdict it is.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::instance::Instance;
use unitring_tests::ports;
use unitring_tests::site::Site;
use unitring_tests::two_listeners::beside;

/// Envoy matches each of its stats for an answer to `/stats`.
#[tokio::test]
async fn statuses_of_an_instance_that_answers_500_are_asked_for_ever_less_often() -> Result<()> {
    let folder = TempDir::with_prefix("unitring-admin-")?;
    let path = folder.path().join("admin.log");
    let mut site = Site::start_with(|config| {
        let log = json!([{
            "name": "file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": path,
                "log_format": {"text_format_source": {"inline_string": "%REQ(:PATH)%\n"}},
            },
        }]);
        let config = config.unchecked()?.setting("discovery.interval", json!("100ms"))?;
        config.edit(|bootstrap| {
            bootstrap["admin"]["access_log"] = log;
            Ok(())
        })
    })
    .await?;
    site.instance("b").fail_with(500).await?;
    let asked = || -> Result<(usize, usize)> {
        let log = fs::read_to_string(&path)?;
        let count = |begin: &str| log.lines().filter(|line| line.starts_with(begin)).count();
        Ok((
            count("/clusters?"),
            count("/stats?filter=%5Ecluster%5C.orders"),
        ))
    };
    let (before, _) = asked()?;
    until("sixty looks", async || {
        for key in keys(60) {
            site.envoy.get(&key).await?;
        }
        let (looks, _) = asked()?;
        ensure!(looks >= before + 60, "{looks}");
        Ok(())
    })
    .await?;
    let (looks, stats) = asked()?;
    // The first that a VM asks before anything fails, five at once, and then after 1, 2, 4, 8 … s.
    ensure!(stats >= 5, "{stats} of {looks}");
    ensure!(stats <= looks / 3, "{stats} of {looks}");
    ensure!(site.envoy.ours("ejections").await? == 0);
    Ok(())
}

/// Both filters see each failure on Envoy's page, but only one acts on it, and only for its own listener.
#[tokio::test]
async fn a_filter_that_ejects_nobody_counts_failures_for_one_that_does() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let second = ports::free()?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .unchecked()?;
    let nobody = json!({"consecutive_failures": 0});
    let config = beside(config, second, "ejection", nobody)?;
    let mut envoy = Envoy::start_with_workers(&config, 2).await?;
    envoy.steers_to(4).await?;
    let failing = instances.first().context("no a")?;
    failing.fail_with(503).await?;
    let first = std::mem::replace(&mut envoy.port, second);
    until("the failing instance to be ejected", async || {
        for key in keys(60) {
            envoy.get(&key).await?;
        }
        ensure!(envoy.ours("ejections").await? > 0);
        Ok(())
    })
    .await?;
    let failures = envoy.ours("failures").await?;
    ensure!(failures > 0, "{failures}");

    envoy.port = first;
    until("the listener that ejects to avoid it", async || {
        let owners = envoy.owners(&keys(60)).await?;
        ensure!(owners.values().all(|owner| owner != "a"), "{owners:?}");
        Ok(())
    })
    .await?;
    // Without retries its keys would fail there.
    failing.fail_with(200).await?;
    envoy.port = second;
    let owners = envoy.owners(&keys(60)).await?;
    ensure!(owners.values().any(|owner| owner == "a"), "{owners:?}");
    Ok(())
}
