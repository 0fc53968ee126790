//! A registered instance gets its keys, and only those move: registry → EDS → Envoy → filter.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::json;
use unitring_tests::companion::Settings;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;

async fn owners(envoy: &Envoy) -> Result<BTreeMap<String, String>> {
    let mut owners = BTreeMap::new();
    for number in 0..500 {
        let key = format!("user-{number}");
        let answer = envoy.get(&key).await?;
        ensure!(answer.status == 200, "{key}: {}", answer.status);
        owners.insert(key, answer.instance);
    }
    Ok(owners)
}

#[tokio::test]
async fn a_registered_instance_takes_its_keys_and_no_others_move() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let companion = Settings::default().start().await?;
    for instance in &instances {
        companion.register(instance).await?;
    }
    let config = EnvoyConfig::shipped("eds.yaml")?.companion(&companion)?;
    let envoy = Envoy::start(&config.setting("ring.fill", json!("fixed"))?).await?;
    envoy.steers_to(4).await?;
    let before = owners(&envoy).await?;

    let added = Instance::start("e").await?;
    companion.register(&added).await?;
    envoy.steers_to(5).await?;
    let with = owners(&envoy).await?;
    let taken = with.values().filter(|owner| *owner == "e").count();
    assert!((20..300).contains(&taken), "e took {taken} of 500 keys");
    for (key, owner) in &with {
        assert!(
            owner == "e" || owner == &before[key],
            "{key} went from {} to {owner}",
            before[key]
        );
    }

    companion.unregister("e").await?;
    envoy.steers_to(4).await?;
    assert_eq!(owners(&envoy).await?, before);
    until("the events at the companion", async || {
        let events = companion
            .get("/v1/events?format=json&limit=100")
            .await?
            .to_string();
        ensure!(
            events.contains("added") && events.contains("removed"),
            "{events}"
        );
        Ok(())
    })
    .await
}
