//! Invariant 1: the same hosts and settings give Envoy's own placement, by address and by host name.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::instance::Instance;
use unitring_tests::on_both_shells;
use unitring_tests::shell::Shell;

const KEYS: usize = 10_000;
/// Far fewer than the 16 requests that an instance may always have, so that none overflows, also where a correction of
/// the gauges by Envoy's counts is too high until the next look.
const CONNECTIONS: usize = 4;

on_both_shells! { ten_thousand_keys_have_the_instances_that_ring_hash_gives_them }

async fn ten_thousand_keys_have_the_instances_that_ring_hash_gives_them(
    shell: Shell,
) -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let weights = [1, 2, 3, 1];
    let alone = Shell::Filter.config()?.instances(&instances, &weights)?;
    let native = Envoy::start(&alone.without_filter()?).await?;
    native.has_healthy(instances.len()).await?;
    let filtered = Envoy::start(&shell.config()?.instances(&instances, &weights)?).await?;
    filtered.steers_to(instances.len()).await?;

    let keys: Vec<String> = (0..KEYS).map(|number| format!("user-{number}")).collect();
    let (expected, placed) = tokio::try_join!(owners(&native, &keys), owners(&filtered, &keys))?;
    let differing = keys
        .iter()
        .zip(expected.iter().zip(&placed))
        .filter(|(_, (e, p))| e != p);
    let differing: Vec<_> = differing.collect();
    assert!(
        differing.is_empty(),
        "{} differ, as {:?}",
        differing.len(),
        differing.first()
    );

    // And every instance has some of them.
    for instance in &instances {
        assert!(placed.iter().filter(|owner| **owner == instance.id).count() > KEYS / 20);
    }
    if shell == Shell::Native {
        return Ok(());
    }
    // The filter placed them, not the fallback; its VMs count on their timers.
    until("the filter to have counted them", async || {
        let stats = filtered
            .stats("wasmcustom.unitring.orders.instance.")
            .await?;
        let calls = stats.iter().filter(|(name, _)| name.ends_with(".calls"));
        let calls: u64 = calls.map(|(_, count)| count).sum();
        ensure!(calls >= u64::try_from(KEYS)?, "it placed {calls}");
        Ok(())
    })
    .await
}

/// The fallback's typed configuration in the cluster `orders`.
const FALLBACK: &str = "/load_balancing_policy/policies/0/typed_extension_config/typed_config\
    /fallback_policy/policies/0/typed_extension_config/typed_config";

#[tokio::test]
async fn placed_by_id_a_key_is_where_an_envoy_that_hashes_host_names_has_it() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let by_address = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[1, 2, 3, 1])?;
    let by_id = by_address
        .clone()
        .setting("ring.identity", json!("id"))?
        .edit_cluster("orders", |cluster| {
            let fallback = cluster.pointer_mut(FALLBACK).context("no fallback")?;
            fallback["consistent_hashing_lb_config"] = json!({"use_hostname_for_hashing": true});
            let endpoints = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints");
            let endpoints = endpoints.and_then(Value::as_array_mut).context("none")?;
            for (endpoint, instance) in endpoints.iter_mut().zip(&instances) {
                endpoint["endpoint"]["hostname"] = json!(format!("orders-{}", instance.id));
            }
            Ok(())
        })?;
    let addresses = Envoy::start(&by_address.without_filter()?).await?;
    let names = Envoy::start(&by_id.clone().without_filter()?).await?;
    let filtered = Envoy::start(&by_id).await?;
    for native in [&addresses, &names] {
        native.has_healthy(instances.len()).await?;
    }
    filtered.steers_to(instances.len()).await?;
    let keys = keys(2_000);
    let (addresses, names, placed) = tokio::try_join!(
        owners(&addresses, &keys),
        owners(&names, &keys),
        owners(&filtered, &keys)
    )?;
    assert_eq!(placed, names);
    assert_ne!(placed, addresses, "by address they would be elsewhere");
    let answer = filtered.get("user-0").await?;
    assert_eq!(answer.header("x-unitring-reason"), Some("primary"));
    Ok(())
}

/// The instance of each key, over several connections at once.
async fn owners(envoy: &Envoy, keys: &[String]) -> Result<Vec<String>> {
    let ask = async |part: &[String]| -> Result<Vec<String>> {
        let mut owners = Vec::new();
        for key in part {
            let answer = envoy.get(key).await?;
            ensure!(answer.status == 200, "{key}: {}", answer.status);
            owners.push(answer.instance);
        }
        Ok(owners)
    };
    let parts = keys.chunks(keys.len().div_ceil(CONNECTIONS)).map(ask);
    Ok(try_join_all(parts).await?.concat())
}
