//! Requests that run more than once: hedged, retried and redirected.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys, send};
use unitring_tests::host_counts::{counts_as_envoy, host_counts};
use unitring_tests::instance::Instance;

/// The shipped configuration without ejection, with this in its route.
fn config(instances: &[Instance], route: serde_json::Value) -> Result<EnvoyConfig> {
    EnvoyConfig::shipped("envoy.yaml")?
        .instances(instances, &[])?
        .unchecked()?
        .setting("ejection.consecutive_failures", json!(0))?
        .edit_connections(|manager| {
            let place = "/route_config/virtual_hosts/0/routes/0/route";
            let fields = manager.pointer_mut(place).context("no route")?;
            for (name, value) in route.as_object().context("not an object")? {
                fields[name] = value.clone();
            }
            Ok(())
        })
}

/// So many at once that all of their retries are within the cluster's 64, also where each request is hedged because the
/// machine is busy.
const AT_ONCE: usize = 30;

/// Sends these keys, to this path; every answer must be 200.
async fn ask(envoy: &Envoy, path: &str, keys: &[String]) -> Result<()> {
    for keys in keys.chunks(AT_ONCE) {
        let asked = keys.iter().map(async |key| {
            let answer = send(envoy.request(path).header("x-user-id", key)).await?;
            ensure!(answer.status == 200, "{path}: {key}: {answer:?}");
            Ok(())
        });
        try_join_all(asked).await?;
    }
    Ok(())
}

/// Waits until no attempt is under way at any host.
async fn is_over(envoy: &Envoy) -> Result<()> {
    until("all attempts to be over", async || {
        let hosts = host_counts(envoy, "orders").await?;
        ensure!(hosts.values().all(|host| host.active == 0), "{hosts:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn hedged_and_retried_attempts_are_counted_as_envoy_counts_them() -> Result<()> {
    let mut instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let route = json!({
        "hedge_policy": {"hedge_on_per_try_timeout": true},
        "retry_policy": {
            "retry_on": "connect-failure,reset,gateway-error",
            "num_retries": 2,
            // An attempt that an instance reads only after Envoy gave it up counts for Envoy alone.
            "per_try_timeout": "2s",
        },
    });
    let envoy = Envoy::start_with_workers(&config(&instances, route)?, 2).await?;
    envoy.steers_to(4).await?;
    let slow = instances.first().context("no a")?;
    slow.take(Duration::from_secs(4)).await?;
    instances.get(1).context("no b")?.fail_with(503).await?;
    ask(&envoy, "/", &keys(60)).await?;
    instances.get_mut(3).context("no d")?.kill()?;
    ask(&envoy, "/", &keys(60)).await?;
    is_over(&envoy).await?;
    let counts = counts_as_envoy(&envoy).await?;
    let sum: u64 = counts.values().map(|host| host.calls).sum();
    ensure!(sum > 120, "none ran twice: {counts:?}");
    let refusing = instances.get(3).context("no d")?.address();
    for (address, host) in &counts {
        let is_failing = [
            instances.get(1).context("no b")?.address(),
            refusing.clone(),
        ];
        let failed = host.errors > 0;
        ensure!(
            !is_failing.contains(address) || failed,
            "{address} failed: {counts:?}"
        );
    }
    // The calls equal the count of each instance that is there, once it has seen that Envoy gave some up.
    until("the instances to count the same", async || {
        for instance in instances.iter().take(3) {
            let served = instance.load().await?.served;
            let calls = counts.get(&instance.address()).context("none")?.calls;
            ensure!(calls == served, "{}: {calls}, {served}", instance.id);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_internal_redirect_is_counted_as_envoy_counts_it_and_no_forged_header() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let route = json!({"internal_redirect_policy": {"redirect_response_codes": [302]}});
    let envoy = Envoy::start_with_workers(&config(&instances, route)?, 2).await?;
    envoy.steers_to(4).await?;
    ask(&envoy, "/?redirect=1", &keys(40)).await?;
    let counts = counts_as_envoy(&envoy).await?;
    let sum: u64 = counts.values().map(|host| host.calls).sum();
    ensure!(sum == 80, "each runs twice: {counts:?}");
    let redirected = envoy.stat("cluster.orders.upstream_internal_redirect_succeeded_total");
    ensure!(redirected.await? == 40, "not all were redirected");
    // A worker adds its counts within a tick, which a look follows.
    let looks = envoy.ours("discovery.done").await?;
    until("two more looks", async || {
        ensure!(envoy.ours("discovery.done").await? >= looks + 2);
        Ok(())
    })
    .await?;
    assert_eq!(envoy.ours("forged_headers").await?, 0);
    let forged = envoy.request("/").header("x-unitring-host", "127.0.0.1:1");
    send(forged.header("x-user-id", "ada")).await?;
    until("the forged header to be counted", async || {
        let forged = envoy.ours("forged_headers").await?;
        ensure!(forged == 1, "{forged}");
        Ok(())
    })
    .await
}
