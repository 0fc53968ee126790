//! Failing instances get no keys, come back on trial, and warm up; meanwhile other instances serve their
//! keys.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::deadline::until;
use unitring_tests::envoy::keys;
use unitring_tests::on_both_shells;
use unitring_tests::shell::Shell;
use unitring_tests::site::Site;

on_both_shells! {
    what_envoys_outlier_detection_ejects_gets_no_keys,
}

const WORKERS: u32 = 2;

#[tokio::test]
async fn an_instance_that_answers_503_is_ejected_and_back_after_a_trial() -> Result<()> {
    let mut site = Site::start_with_workers(WORKERS, |config| {
        let ejection = json!({"consecutive_failures": 3, "base": "1s", "max_percent": 50});
        config.unchecked()?.setting("ejection", ejection)
    })
    .await?;
    let keys = keys(60);
    let before = site.envoy.owners(&keys).await?;
    let address = site.instance("b").address();

    // Callers get the next candidate's answer all the time.
    site.instance("b").fail_with(503).await?;
    until("the failing instance to be ejected", async || {
        site.envoy.owners(&keys).await?;
        let name = "wasmcustom.unitring.orders.instances_eligible";
        let eligible = site.envoy.stat(name).await?;
        ensure!(eligible == 3, "{eligible}");
        Ok(())
    })
    .await?;
    site.companion
        .tells("ejected", &address, "gateway failures")
        .await?;

    // On trial, the first failure ejects it again, for longer each time.
    let ejections = "wasmcustom.unitring.orders.ejections";
    until("a trial to fail", async || {
        site.envoy.owners(&keys).await?;
        let count = site.envoy.stat(ejections).await?;
        ensure!(count >= 2, "{count}");
        Ok(())
    })
    .await?;

    site.instance("b").fail_with(0).await?;
    site.envoy.has_eligible(4).await?;
    site.companion
        .tells("recovered", &address, "takes keys again")
        .await?;
    site.envoy.has_owners(&before).await
}

#[tokio::test]
async fn no_more_than_the_greatest_share_is_ejected_whatever_fails() -> Result<()> {
    let site = Site::start_with_workers(WORKERS, |config| {
        let ejection = json!({"consecutive_failures": 2, "base": "300s", "max_percent": 50});
        config.unchecked()?.setting("ejection", ejection)
    })
    .await?;
    for instance in &site.instances {
        instance.fail_with(502).await?;
    }
    let keys = keys(40);
    until("two ejections", async || {
        for key in &keys {
            let answer = site.envoy.get(key).await?;
            ensure!(answer.status == 502, "{}", answer.status);
        }
        let count = site
            .envoy
            .stat("wasmcustom.unitring.orders.ejections")
            .await?;
        ensure!(count == 2, "{count}");
        Ok(())
    })
    .await?;
    for key in &keys {
        site.envoy.get(key).await?;
    }
    site.envoy.has_eligible(2).await?;
    let count = site
        .envoy
        .stat("wasmcustom.unitring.orders.ejections")
        .await?;
    assert_eq!(count, 2, "the other two keep their keys");
    Ok(())
}

async fn what_envoys_outlier_detection_ejects_gets_no_keys(shell: Shell) -> Result<()> {
    let mut site = Site::start_in(shell, WORKERS, |config| {
        let config = config
            .unchecked()?
            .of_filter("ejection.consecutive_failures", json!(0))?;
        config.edit_cluster("orders", |cluster| {
            let fields = cluster.as_object_mut().context("not an object")?;
            let detection = json!({
                "consecutive_gateway_failure": 3,
                "enforcing_consecutive_gateway_failure": 100,
                "interval": "0.5s",
                "base_ejection_time": "2s",
                "max_ejection_percent": 50,
            });
            fields.insert("outlier_detection".to_owned(), detection);
            Ok(())
        })
    })
    .await?;
    let keys = keys(60);
    let address = site.instance("c").address();
    site.instance("c").fail_with(503).await?;
    until("Envoy to eject it, and the shell to follow", async || {
        site.envoy.owners(&keys).await?;
        let eligible = site.envoy.ours("instances_eligible").await?;
        ensure!(eligible == 3, "{eligible}");
        Ok(())
    })
    .await?;
    let why = shell.reason("outlier");
    site.companion.tells("ejected", &address, why).await?;
    site.instance("c").fail_with(0).await?;
    site.envoy.has_eligible(4).await?;
    site.companion.tells("recovered", &address, "").await?;
    Ok(())
}

#[tokio::test]
async fn an_instance_that_comes_back_warms_up() -> Result<()> {
    let mut site = Site::start_with_workers(WORKERS, |config| {
        let config = config.setting("slow_start", json!({"window": "15s", "start_percent": 10}))?;
        config.setting("companion.interval", json!("250ms"))
    })
    .await?;
    let address = site.instance("d").address();
    site.instance("d").kill()?;
    site.envoy.has_eligible(3).await?;
    site.instance("d").restart().await?;

    let warmth = async || -> Result<u64> {
        let service = site.companion.get("/v1/services/orders").await?;
        let instances = service.get("instances").and_then(Value::as_array);
        let mut instances = instances.into_iter().flatten();
        let instance = instances.find(|instance| instance["address"] == json!(address));
        let warmth = instance.and_then(|instance| instance["warmth"].as_u64());
        warmth.with_context(|| format!("no warmth: {service}"))
    };
    until("it to warm up", async || {
        let warmth = warmth().await?;
        ensure!((10..100).contains(&warmth), "{warmth}");
        Ok(())
    })
    .await?;
    until("it to be warm", async || {
        let warmth = warmth().await?;
        ensure!(warmth == 100, "{warmth}");
        Ok(())
    })
    .await?;
    let event = site
        .companion
        .tells("warmed", &address, "slow start")
        .await?;
    let moved = event["moved"].as_f64().context("no share")?;
    // A quarter of the keys are its own; with Envoy's fill some others move, too.
    assert!((0.15..=1.0).contains(&moved), "{event}");
    Ok(())
}
