//! A draining instance gets no new keys and finishes its requests; an instance that comes back under its
//! id keeps its keys.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::instance::Instance;
use unitring_tests::on_both_shells;
use unitring_tests::shell::Shell;

on_both_shells! {
    a_draining_instance_gets_no_new_keys_and_finishes_what_it_has,
}

struct Site {
    envoy: Envoy,
    companion: Companion,
    instances: Vec<Instance>,
}

impl Site {
    /// Starts with instances from the registry, and two workers.
    async fn start(change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>) -> Result<Self> {
        Self::start_in(Shell::Filter, change).await
    }

    async fn start_in(
        shell: Shell,
        change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
    ) -> Result<Self> {
        let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
        let companion = Settings::default().start().await?;
        for instance in &instances {
            companion.register(instance).await?;
        }
        let config = shell
            .by_registry()?
            .companion(&companion)?
            .of_filter("discovery.interval", json!("250ms"))?
            .setting("companion.interval", json!("250ms"))?;
        let envoy = Envoy::start_with_workers(&change(config)?, 2).await?;
        envoy.steers_to(instances.len()).await?;
        Ok(Self {
            envoy,
            companion,
            instances,
        })
    }

    async fn put(&self, id: &str, body: Value) -> Result<(u16, Value)> {
        let path = format!("/v1/services/orders/instances/{id}");
        let body = body.to_string().into_bytes();
        let answer = self.companion.call(Method::PUT, &path, body).await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// Runs `unitring instance` with this action.
    fn order(&self, action: &str, id: &str) -> Result<(bool, String)> {
        let service = ["--service", "orders", "--id", id];
        self.companion
            .ask(&[&["instance", action], &service[..]].concat())
    }
}

async fn a_draining_instance_gets_no_new_keys_and_finishes_what_it_has(shell: Shell) -> Result<()> {
    let site = Site::start_in(shell, |config| {
        config.patient()?.setting("ring.fill", json!("fixed"))
    })
    .await?;
    let keys = keys(100);
    let before = site.envoy.owners(&keys).await?;
    let kept = before.iter().find(|(_, owner)| *owner == "b");
    let request = site.envoy.request("/?held=1");
    let request = request.header("x-user-id", kept.context("b has no key")?.0);
    let long = request.send().await?;

    let (done, told) = site.order("drain", "b")?;
    assert!(done && told.contains("draining"), "{told}");
    until("it to have no keys", async || {
        let now = site.envoy.owners(&keys).await?;
        ensure!(now.values().all(|owner| owner != "b"), "{now:?}");
        Ok(())
    })
    .await?;
    for (key, owner) in site.envoy.owners(&keys).await? {
        let was = &before[&key];
        assert!(was == "b" || *was == owner, "{key}: {was}, then {owner}");
    }
    // `locate` finds the instance by its id in the registry, though filters report addresses.
    let path = "/v1/services/orders/locate?key=ada&without=c";
    until("a third of the keys, more or less", async || {
        let located = site.companion.get(path).await?;
        let moved = located["change"]["moved"].as_f64().context("no share")?;
        ensure!((0.2..0.5).contains(&moved), "{located}");
        Ok(())
    })
    .await?;
    // A heartbeat does not end draining.
    site.companion.register(&site.instances[1]).await?;
    let address = site.instances[1].address();
    let (drains, why) = (shell == Shell::Filter, shell.reason("draining"));
    until("the report to say so", async || {
        let service = site.companion.get("/v1/services/orders").await?;
        let of = |list: &str, field: &str, value: &str, drains: bool| {
            let list = service[list].as_array().into_iter().flatten();
            let mut found = list.filter(|one| one[field] == value);
            found.next().is_some_and(|one| one["draining"] == drains)
        };
        let is_told = of("instances", "address", &address, drains);
        ensure!(of("registry", "id", "b", true) && is_told, "{service}");
        Ok(())
    })
    .await?;
    site.companion.tells("ejected", "b", "draining").await?;
    let event = site.companion.tells("ejected", &address, why).await?;
    let moved = event["moved"].as_f64().context("no share")?;
    assert!(
        (0.1..0.4).contains(&moved),
        "a quarter, more or less: {event}"
    );
    // Its request in flight goes on to its end.
    site.instances[1].release().await?;
    let body: Value = long.json().await?;
    assert_eq!(body["instance"], "b");

    assert!(site.order("undrain", "b")?.0);
    site.envoy.has_owners(&before).await
}

#[tokio::test]
async fn an_instance_that_comes_back_at_another_address_keeps_its_keys_by_id() -> Result<()> {
    let mut site = Site::start(|config| config.setting("ring.identity", json!("id"))).await?;
    let keys = keys(100);
    let before = site.envoy.owners(&keys).await?;
    let again = Instance::start("c").await?;
    assert_ne!(again.port, site.instances[2].port);
    site.companion.register(&again).await?;
    site.instances[2].kill()?;
    site.instances[2] = again;
    site.envoy.steers_to(4).await?;
    site.envoy.has_owners(&before).await?;
    site.companion
        .tells("added", "c", "another address")
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_filter_that_asks_the_registry_itself_follows_it() -> Result<()> {
    let site = Site::start(|config| config.setting("discovery.source", json!("companion"))).await?;
    let keys = keys(40);
    let before = site.envoy.owners(&keys).await?;
    assert!(site.order("drain", "a")?.0);
    until("it to have no keys", async || {
        let now = site.envoy.owners(&keys).await?;
        ensure!(now.values().all(|owner| owner != "a"), "{now:?}");
        Ok(())
    })
    .await?;
    assert!(site.order("undrain", "a")?.0);
    site.envoy.has_owners(&before).await
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused() -> Result<()> {
    let site = Site::start(Ok).await?;
    let (status, answer) = site.put("b", json!({"drain": "yes"})).await?;
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = site.put("nobody", json!({"drain": true})).await?;
    assert_eq!(status, 404, "{answer}");
    let (done, told) = site.order("drain", "nobody")?;
    assert!(!done && told.contains("no instance nobody"), "{told}");
    let (done, told) = site.order("remove", "d")?;
    assert!(done, "{told}");
    site.envoy.steers_to(3).await
}
