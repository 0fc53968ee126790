//! Data updates that instances announce in their answers: counted, handed over, and read back.

mod bodies;
mod example;
mod flood;
mod kills;
mod monitoring;
mod traps;

use anyhow::{Result, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use unitring_tests::companion::Companion;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::envoy::Envoy;
use unitring_tests::site::Site;

/// A site whose filter captures as these settings say, and by default waits long for a companion on a busy machine.
pub(crate) async fn site(capture: Value) -> Result<Site> {
    site_with(capture, 1, Ok).await
}

pub(crate) async fn site_with(
    capture: Value,
    workers: u32,
    change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
) -> Result<Site> {
    let mut patient = json!({"timeout": "60s"});
    for (name, value) in capture.as_object().into_iter().flatten() {
        patient[name] = value.clone();
    }
    Site::start_with_workers(workers, |config| {
        change(
            config
                .setting("capture", patient)?
                .setting("companion.interval", json!("250ms"))?,
        )
    })
    .await
}

/// The answer that a caller gets.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Asks an instance for an answer with this query.
pub(crate) async fn ask(envoy: &Envoy, query: &[(&str, &str)]) -> Result<Got> {
    let request = envoy.asking(query)?;
    let response = request.timeout(PATIENCE).send().await?;
    Ok(Got {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.text().await?,
    })
}

/// The value of a record; `None` if there is none.
pub(crate) async fn record(companion: &Companion, path: &str) -> Result<Option<String>> {
    let path = format!("/v1/data/{path}");
    let response = companion.call(Method::GET, &path, Vec::new()).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    ensure!(response.status() == StatusCode::OK, "{}", response.status());
    Ok(Some(response.text().await?))
}

pub(crate) async fn has(companion: &Companion, path: &str, value: &str) -> Result<()> {
    until(&format!("{path} to be {value}"), async || {
        let seen = record(companion, path).await?;
        ensure!(seen.as_deref() == Some(value), "{seen:?}");
        Ok(())
    })
    .await
}

/// Waits until an answer with this update is acknowledged.
pub(crate) async fn stores(envoy: &Envoy, query: &[(&str, &str)]) -> Result<()> {
    until("an update to be stored", async || {
        let got = ask(envoy, query).await?;
        ensure!(got.status == 200, "{}", got.status);
        Ok(())
    })
    .await
}

pub(crate) async fn stat(envoy: &Envoy, name: &str) -> Result<u64> {
    envoy
        .stat(&format!("wasmcustom.unitring.orders.{name}"))
        .await
}

/// The sum of a stat over all instances.
pub(crate) async fn of_instances(envoy: &Envoy, name: &str) -> Result<u64> {
    let stats = envoy.stats("wasmcustom.unitring.orders.instance.").await?;
    let end = format!(".{name}");
    Ok(stats
        .iter()
        .filter(|(stat, _)| stat.ends_with(&end))
        .map(|(_, n)| n)
        .sum())
}

pub(crate) async fn counts(envoy: &Envoy, name: &str, expected: u64) -> Result<()> {
    until(&format!("{name} to be {expected}"), async || {
        let seen = match name.split_once("instances.") {
            Some((_, name)) => of_instances(envoy, name).await?,
            None => stat(envoy, name).await?,
        };
        ensure!(seen == expected, "{seen}");
        Ok(())
    })
    .await
}

const UPDATES: &str = "carts/ada;ttl=60s, carts/bob%2Fx , carts/eve;delete";

#[tokio::test]
async fn off_removes_the_header_and_does_no_more() -> Result<()> {
    let site = site(json!({})).await?;
    let got = ask(&site.envoy, &[("update", UPDATES), ("value", "v")]).await?;
    assert_eq!((got.status, got.body.as_str()), (200, "v"));
    assert_eq!(got.header("x-unitring-update"), None);
    assert_eq!(of_instances(&site.envoy, "updates").await?, 0);
    assert_eq!(record(&site.companion, "carts/ada").await?, None);
    Ok(())
}

#[tokio::test]
async fn count_counts_what_instances_announce_and_no_method() -> Result<()> {
    let site = site(json!({"mode": "count"})).await?;
    let got = ask(&site.envoy, &[("update", UPDATES), ("update", "a/b")]).await?;
    assert_eq!((got.status, got.header("x-unitring-update")), (200, None));
    // A POST is no update by itself.
    let post = Client::new()
        .post(site.envoy.url("/"))
        .header("x-user-id", "ada");
    assert_eq!(post.send().await?.status(), 200);
    counts(&site.envoy, "instances.updates", 4).await?;
    assert_eq!(record(&site.companion, "carts/ada").await?, None);
    Ok(())
}

#[tokio::test]
async fn async_hands_over_after_the_answer() -> Result<()> {
    let site = site(json!({"mode": "async"})).await?;
    site.companion.put_record("carts/eve", "old").await?;
    let got = ask(&site.envoy, &[("update", UPDATES)]).await?;
    assert_eq!((got.status, got.header("x-unitring-update")), (200, None));
    has(&site.companion, "carts/ada", "").await?;
    has(&site.companion, "carts/bob%2Fx", "").await?;
    until("eve to be deleted", async || {
        ensure!(record(&site.companion, "carts/eve").await?.is_none());
        Ok(())
    })
    .await?;
    counts(&site.envoy, "updates.stored", 3).await?;
    counts(&site.envoy, "instances.updates", 3).await
}

#[tokio::test]
async fn sync_answers_once_the_record_is_stored() -> Result<()> {
    let site = site(json!({"mode": "sync"})).await?;
    for number in 0..20 {
        let update = format!("carts/{number};ttl=60s, carts/gone;delete");
        let got = ask(&site.envoy, &[("update", &update), ("value", "v")]).await?;
        assert_eq!((got.status, got.body.as_str()), (200, "v"));
        assert_eq!(got.header("x-unitring-update"), None);
        let stored = record(&site.companion, &format!("carts/{number}")).await?;
        assert_eq!(stored.as_deref(), Some(""), "{number}");
    }
    counts(&site.envoy, "updates.stored", 40).await
}

#[tokio::test]
async fn a_malformed_update_is_left_out_counted_and_logged_and_the_others_are_stored() -> Result<()>
{
    let site = site(json!({"mode": "sync"})).await?;
    let got = ask(
        &site.envoy,
        &[("update", "carts/ada, carts/b b, x/1;ttl=5, unitring.own/1")],
    )
    .await?;
    // The companion refuses the last one, so the answer is not acknowledged.
    assert_eq!(got.status, 503);
    assert_eq!(got.header("x-unitring-reason"), Some("update-refused"));
    assert_eq!(
        record(&site.companion, "carts/ada").await?.as_deref(),
        Some("")
    );
    counts(&site.envoy, "updates.refused", 3).await?;
    counts(&site.envoy, "instances.updates_refused", 3).await?;
    for _ in 0..50 {
        let got = ask(&site.envoy, &[("update", "carts/b b é")]).await?;
        assert_eq!((got.status, got.header("x-unitring-update")), (200, None));
    }
    let log = site.envoy.log();
    // Once in ten seconds, and a busy machine may take some of them for these requests.
    let said = log.matches("was left out").count();
    assert!((1..10).contains(&said), "{log}");
    assert!(
        log.contains("the data update carts/b b was left out: the key must be"),
        "{log}"
    );
    counts(&site.envoy, "updates.refused", 53).await
}

#[tokio::test]
async fn a_request_announces_nothing_and_neither_does_envoy() -> Result<()> {
    // Envoy's own answer, for a path of its own.
    let site = site_with(json!({"mode": "sync"}), 1, |config| {
        config.edit_connections(|connections| {
            let routes = connections
                .pointer_mut("/route_config/virtual_hosts/0/routes")
                .and_then(Value::as_array_mut);
            let own = json!({"match": {"prefix": "/own"}, "direct_response": {"status": 200},
                "response_headers_to_add": [{"header": {"key": "x-unitring-update", "value": "carts/own"}}]});
            routes.into_iter().for_each(|routes| routes.insert(0, own.clone()));
            Ok(())
        })
    })
    .await?;
    let own = site
        .envoy
        .request("/own")
        .header("x-user-id", "ada")
        .send()
        .await?;
    assert_eq!(own.status(), 200);
    assert!(!own.headers().contains_key("x-unitring-update"));
    let forged = site.envoy.request("/").header("x-user-id", "ada");
    let forged = forged
        .header("x-unitring-update", "carts/forged")
        .send()
        .await?;
    let seen = forged.text().await?;
    assert!(!seen.contains("x-unitring-update"), "{seen}");
    counts(&site.envoy, "updates.foreign", 1).await?;
    for key in ["own", "forged"] {
        assert_eq!(
            record(&site.companion, &format!("carts/{key}")).await?,
            None
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_header_is_removed_from_answers_of_other_services_too() -> Result<()> {
    let site = site(json!({"mode": "sync"})).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&site.instances, &[])?
        .settings(json!({"services": [{"service": "elsewhere"}]}))?;
    let envoy = Envoy::start(&config).await?;
    until("an answer", async || {
        let got = ask(&envoy, &[("update", "carts/ada")]).await?;
        ensure!(got.status == 200, "{}", got.status);
        assert_eq!(got.header("x-unitring-update"), None);
        Ok(())
    })
    .await
}
