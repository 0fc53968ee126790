//! Data updates of instances in the console, in metrics and in the bound.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::shell::Shell;
use unitring_tests::site::Site;

use super::{ask, site, site_with};

#[tokio::test]
async fn what_instances_announce_is_in_reports_metrics_and_status() -> Result<()> {
    let site = site(json!({"mode": "sync"})).await?;
    for number in 0..30 {
        let update = format!("carts/{number};body, x/{number}");
        let got = ask(&site.envoy, &[("update", &update), ("value", "0123456789")]).await?;
        assert_eq!(got.status, 200);
    }
    ask(&site.envoy, &[("update", "bad")]).await?;
    until("the companion to know", async || {
        let service = site.companion.get("/v1/services/orders").await?;
        let instances = service["instances"].as_array().context("no instances")?;
        let sum =
            |name: &str| -> u64 { instances.iter().filter_map(|one| one[name].as_u64()).sum() };
        ensure!(sum("updates") == 60, "{service}");
        ensure!(sum("update_bytes") == 300, "{service}");
        ensure!(sum("updates_refused") == 1, "{service}");
        ensure!(sum("updates_dropped") == 0, "{service}");
        Ok(())
    })
    .await?;
    let metrics = site.companion.metrics().await?;
    for name in [
        "unitring_companion_instance_updates_total",
        "unitring_companion_instance_update_bytes_total",
        "unitring_companion_instance_updates_refused_total",
        "unitring_companion_updates_total",
    ] {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        let sum: f64 = lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        ensure!(sum > 0.0, "{name} in {metrics}");
    }
    let (is_ok, text) = site.companion.ask(&["status"])?;
    ensure!(is_ok && text.contains("UPDATES"), "{text}");
    Ok(())
}

#[tokio::test]
async fn updates_weigh_in_the_bound_and_no_request_is_refused_for_them() -> Result<()> {
    let site = site_with(json!({"mode": "count"}), 1, |config| {
        config
            .setting("load.update_weight", json!(0.5))?
            .setting("load.min_capacity", json!(2))?
            .setting("load.max_in_flight", json!(1_000))
    })
    .await?;
    let updates = vec!["a/b"; 60].join(",");
    // All of this key's updates are of one instance, which is soon over its share.
    until("the key to overflow", async || {
        let query = [("update", updates.as_str())];
        let all = join_all((0..8).map(|_| ask(&site.envoy, &query))).await;
        let mut reasons = Vec::new();
        for got in all {
            let got = got?;
            ensure!(got.status == 200, "{}", got.status);
            reasons.push(
                got.header("x-unitring-reason")
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
        ensure!(
            reasons.iter().any(|reason| reason == "overflow"),
            "{reasons:?}"
        );
        let service = site.companion.get("/v1/services/orders").await?;
        ensure!(
            service.to_string().contains("\"update_load\":"),
            "{service}"
        );
        Ok(())
    })
    .await?;
    // Without updates it comes back to its instance.
    until("the key to be at its instance again", async || {
        let got = ask(&site.envoy, &[("value", "v")]).await?;
        ensure!(got.header("x-unitring-reason") == Some("primary"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_instance_with_too_many_updates_is_told_by_every_envoy_and_so_is_its_relief()
-> Result<()> {
    let change = |config: EnvoyConfig| {
        let config = config.setting("capture", json!({"mode": "count"}))?;
        let config = config.setting("load.update_threshold", json!(50))?;
        config.setting("companion.interval", json!("250ms"))
    };
    let site = Site::start_with(change).await?;
    // It sees no update itself, and knows of them from the companion.
    let config = Shell::Filter.config()?.instances(&site.instances, &[])?;
    let other = Envoy::start(&change(config.companion(&site.companion)?)?).await?;
    other.steers_to(site.instances.len()).await?;
    // In two entries, or in one that stands for both.
    let told = async |kind: &str| -> Result<()> {
        let events = site
            .companion
            .get("/v1/events?format=json&limit=1000")
            .await?;
        let events = events.as_array().context("no events")?.iter();
        let reason = "data updates a second against load.update_threshold";
        let events = events.filter(|event| event["kind"] == kind && event["reason"] == reason);
        let events: Vec<&Value> = events.collect();
        let reporters = events.iter().filter_map(|event| event["reporter"].as_str());
        let reporters: BTreeSet<&str> = reporters.collect();
        let is_of_both = events.iter().any(|event| event["seen_by"] == 2);
        ensure!(reporters.len() == 2 || is_of_both, "{events:?}");
        Ok(())
    };
    let updates = vec!["a/b"; 60].join(",");
    until("both Envoys to tell", async || {
        // Several, since a busy machine may need more than a second for each.
        let query = [("update", updates.as_str())];
        for got in join_all((0..5).map(|_| ask(&site.envoy, &query))).await {
            got?;
        }
        told("overloaded").await
    })
    .await?;
    until("both Envoys to tell of the relief", async || {
        told("relieved").await
    })
    .await
}
