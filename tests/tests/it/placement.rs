//! Invariant 1: the same hosts and settings give Envoy's own placement.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;

const KEYS: usize = 10_000;
const CONNECTIONS: usize = 16;

#[tokio::test]
async fn ten_thousand_keys_have_the_instances_that_ring_hash_gives_them() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let weights = [1, 2, 3, 1];
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &weights)?;
    let native = Envoy::start(&config.clone().without_filter()?).await?;
    let filtered = Envoy::start(&config).await?;
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

    // It was the filter that placed them, not the fallback; its VMs count on their timers.
    until("the filter to have counted them", async || {
        let stats = filtered
            .stats("wasmcustom.unitring.orders.instance.")
            .await?;
        let calls = stats.iter().filter(|(name, _)| name.ends_with(".calls"));
        let calls: u64 = calls.map(|(_, count)| count).sum();
        ensure!(calls >= u64::try_from(KEYS)?, "it placed {calls}");
        Ok(())
    })
    .await?;
    // And all instances have a part in it.
    for instance in &instances {
        assert!(placed.iter().filter(|owner| **owner == instance.id).count() > KEYS / 20);
    }
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
