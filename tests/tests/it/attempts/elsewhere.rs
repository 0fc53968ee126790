//! Requests that run where the filter did not send them: in a subset of the cluster, and in the cluster
//! that a later filter chose. The instance that saw a request is charged, and no other.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use reqwest::Response;
use serde_json::json;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys, send};
use unitring_tests::host_counts::{counts_as_envoy, host_counts};
use unitring_tests::instance::Instance;

use crate::compatibility::clusters::{WHOLE, with_subsets};
use crate::compatibility::routes::later_filter_to_carts;

/// A field of each instance in the last report on a service, by address.
async fn told(companion: &Companion, service: &str, field: &str) -> Result<BTreeMap<String, u64>> {
    let service = companion.get(&format!("/v1/services/{service}")).await?;
    let instances = service["instances"].as_array().context("no instances")?;
    let values = instances.iter().map(|instance| {
        let address = instance["address"].as_str().context("no address")?;
        let value = instance[field].as_u64();
        Ok((
            address.to_owned(),
            value.with_context(|| service.to_string())?,
        ))
    });
    values.collect()
}

/// The requests in flight at these instances, by their own count.
async fn seen(instances: &[Instance]) -> Result<BTreeMap<String, u64>> {
    let mut seen = BTreeMap::new();
    for instance in instances {
        seen.insert(instance.address(), instance.load().await?.in_flight);
    }
    Ok(seen)
}

/// Starts requests that do not end by themselves, with this header besides their key.
async fn hold(envoy: &Envoy, path: &str, header: &str, count: usize) -> Result<Vec<Response>> {
    let mut held = Vec::new();
    for key in keys(count) {
        let request = envoy.request(&format!("{path}?stream_ms=120000"));
        let request = request.header("x-user-id", key).header(header, "1");
        held.push(request.send().await?.error_for_status()?);
    }
    Ok(held)
}

#[tokio::test]
async fn load_and_failures_behind_a_subset_are_those_of_the_instances_in_it() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let companion = Settings::default().start().await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .patient()?
        .unchecked()?
        .companion(&companion)?;
    let envoy = Envoy::start_with_workers(&with_subsets(config, WHOLE)?, 2).await?;
    until("the filter to leave the service to Envoy", async || {
        envoy.get("user-0").await?;
        ensure!(envoy.ours("fallback.left").await? > 0);
        Ok(())
    })
    .await?;
    let held = hold(&envoy, "/v1", "x-any", 12).await?;
    let in_flight = seen(&instances).await?;
    assert_eq!(in_flight.values().sum::<u64>(), 12);
    until("the load to be told", async || {
        let told = told(&companion, "orders", "in_flight").await?;
        ensure!(told == in_flight, "{told:?}, seen {in_flight:?}");
        Ok(())
    })
    .await?;
    drop(held);
    let failing = instances.first().context("no a")?;
    failing.fail_with(503).await?;
    until("the failing instance to be ejected", async || {
        for key in keys(60) {
            send(envoy.request("/v1").header("x-user-id", key)).await?;
        }
        // All is left to Envoy, so it goes on to fail, and may be ejected again before this is looked at.
        ensure!(envoy.ours("ejections").await? > 0);
        Ok(())
    })
    .await?;
    companion
        .tells("ejected", &failing.address(), "gateway")
        .await?;
    let counts = counts_as_envoy(&envoy).await?;
    for (address, counts) in &counts {
        let is_failing = *address == failing.address();
        ensure!((counts.errors > 0) == is_failing, "{address}: {counts:?}");
    }
    let outside = instances.get(2..).context("no others")?;
    for instance in outside {
        let served = instance.load().await?.served;
        let calls = counts.get(&instance.address()).context("none")?.calls;
        ensure!(calls == served, "{}: {calls} of {served}", instance.id);
    }
    Ok(())
}

#[tokio::test]
async fn what_a_later_filter_sends_to_another_service_is_the_load_of_that_service() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let carts = Instance::start_all(&["x", "y", "z"]).await?;
    let companion = Settings::default().start().await?;
    let service = |name: &str| {
        json!({
            "service": name,
            "key": [{"header": "x-user-id"}],
            "discovery": {"source": "admin", "cluster": "envoy_admin"},
            "ejection": {"consecutive_failures": 5, "base": "300s"},
        })
    };
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .patient()?
        .unchecked()?
        .copy_cluster("orders", "carts", &carts)?
        .companion(&companion)?
        .settings(json!({"services": [service("orders"), service("carts")], "companion": {"cluster": "unitring"}}))?;
    let envoy = Envoy::start_with_workers(&later_filter_to_carts(config)?, 2).await?;
    envoy.steers_to(4).await?;
    let held = hold(&envoy, "/", "x-later", 12).await?;
    let in_flight = seen(&carts).await?;
    assert_eq!(in_flight.values().sum::<u64>(), 12);
    until(
        "the load to be told of carts, and of nobody else",
        async || {
            let of_carts = told(&companion, "carts", "in_flight").await?;
            ensure!(of_carts == in_flight, "{of_carts:?}, seen {in_flight:?}");
            let of_orders = told(&companion, "orders", "in_flight").await?;
            ensure!(of_orders.values().sum::<u64>() == 0, "{of_orders:?}");
            Ok(())
        },
    )
    .await?;
    drop(held);
    let failing = carts.first().context("no x")?;
    failing.fail_with(503).await?;
    let ejections = |service: &str| format!("wasmcustom.unitring.{service}.ejections");
    until("the failing instance to be ejected", async || {
        for key in keys(30) {
            let request = envoy.request("/").header("x-user-id", key);
            send(request.header("x-later", "1")).await?;
        }
        let count = envoy.stat(&ejections("carts")).await?;
        ensure!(count == 1, "{count}");
        Ok(())
    })
    .await?;
    companion
        .tells("ejected", &failing.address(), "gateway")
        .await?;
    assert_eq!(envoy.stat(&ejections("orders")).await?, 0);
    let of_orders = counts_as_envoy(&envoy).await?;
    ensure!(
        of_orders.values().all(|host| host.calls + host.errors == 0),
        "{of_orders:?}"
    );
    let of_carts = host_counts(&envoy, "carts").await?;
    ensure!(of_carts.values().all(|host| host.calls > 0), "{of_carts:?}");
    Ok(())
}
