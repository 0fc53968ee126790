//! The fate of an answer that waits while another part fails.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use unitring_tests::companion::Companion;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::programs;

use super::{ask, counts, has, record, site, site_with, stores};

/// Stops the companion's process, so that it takes connections and answers none.
pub(super) fn signal(companion: &Companion, signal: Signal) -> Result<()> {
    let id = i32::try_from(companion.id())?;
    let process = Pid::from_raw(id).ok_or_else(|| anyhow::anyhow!("no process"))?;
    Ok(kill_process(process, signal)?)
}

#[tokio::test]
async fn a_companion_that_is_away_is_503_at_once_and_works_again_when_it_is_back() -> Result<()> {
    let mut site = site(json!({"mode": "sync", "timeout": "60s"})).await?;
    site.companion.kill()?;
    let begin = Instant::now();
    let got = ask(&site.envoy, &[("update", "carts/ada"), ("value", "v")]).await?;
    assert_eq!((got.status, got.header("retry-after")), (503, Some("1")));
    assert_eq!(got.header("x-unitring-reason"), Some("update-unavailable"));
    assert_eq!(got.header("x-unitring-update"), None);
    // Not after the timeout.
    ensure!(
        begin.elapsed() < Duration::from_secs(55),
        "{:?}",
        begin.elapsed()
    );
    // Answers without updates are not affected.
    assert_eq!(ask(&site.envoy, &[("value", "v")]).await?.status, 200);
    site.companion.restart().await?;
    stores(&site.envoy, &[("update", "carts/ada"), ("value", "v")]).await?;
    assert_eq!(
        record(&site.companion, "carts/ada").await?.as_deref(),
        Some("")
    );
    Ok(())
}

#[tokio::test]
async fn a_companion_that_hangs_is_503_after_the_timeout() -> Result<()> {
    let site = site(json!({"mode": "sync", "timeout": "500ms"})).await?;
    signal(&site.companion, Signal::STOP)?;
    let all = (0..20).map(|_| ask(&site.envoy, &[("update", "carts/ada")]));
    for got in futures_util::future::join_all(all).await {
        let got = got?;
        assert_eq!((got.status, got.header("retry-after")), (503, Some("1")));
    }
    counts(&site.envoy, "updates.dropped", 20).await?;
    counts(&site.envoy, "instances.updates_dropped", 20).await?;
    signal(&site.companion, Signal::CONT)?;
    stores(&site.envoy, &[("update", "carts/ada")]).await
}

async fn fails_at_once(change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>) -> Result<()> {
    let site = site_with(json!({"mode": "sync", "timeout": "60s"}), 1, change).await?;
    for update in ["carts/ada", "carts/ada;body"] {
        let begin = Instant::now();
        let got = ask(&site.envoy, &[("update", update), ("value", "v")]).await?;
        assert_eq!((got.status, got.header("retry-after")), (503, Some("1")));
        assert_eq!(got.header("x-unitring-reason"), Some("update-unavailable"));
        ensure!(begin.elapsed() < Duration::from_secs(55), "it waited");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_cluster_of_the_companion_it_is_503_at_once() -> Result<()> {
    fails_at_once(|config| config.setting("companion.cluster", json!("nowhere"))).await
}

#[tokio::test]
async fn without_a_host_in_it_too() -> Result<()> {
    fails_at_once(|config| {
        config.edit_cluster("unitring", |cluster| {
            let endpoints = cluster.pointer_mut("/load_assignment/endpoints");
            endpoints
                .into_iter()
                .for_each(|endpoints| *endpoints = json!([]));
            Ok(())
        })
    })
    .await
}

#[tokio::test]
async fn a_grpc_caller_gets_its_own_kind_of_503() -> Result<()> {
    let mut site = site(json!({"mode": "sync"})).await?;
    site.companion.kill()?;
    let request = site.envoy.asking(&[
        ("update", "carts/ada"),
        ("content_type", "application/grpc"),
    ])?;
    let got = request
        .header("content-type", "application/grpc")
        .send()
        .await?;
    assert_eq!(got.status(), 200);
    let header = |name: &str| {
        got.headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    assert_eq!(header("grpc-status"), Some("14"));
    assert!(header("grpc-message").is_some_and(|why| why.contains("not stored")));
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_at_half_time_still_has_its_record_stored() -> Result<()> {
    let site = site(json!({"mode": "sync", "timeout": "60s"})).await?;
    signal(&site.companion, Signal::STOP)?;
    let request = site
        .envoy
        .asking(&[("update", "carts/ada;body"), ("value", "kept")])?;
    tokio::select! {
        answered = request.send() => bail!("an answer without the companion: {answered:?}"),
        // The bytes count once the body is read and handed over; then the client leaves.
        waits = counts(&site.envoy, "instances.update_bytes", 4) => waits?,
    }
    until("the client's request to be over", async || {
        let active = site.envoy.stat("http.ingress.downstream_rq_active").await?;
        ensure!(active == 0, "{active}");
        Ok(())
    })
    .await?;
    signal(&site.companion, Signal::CONT)?;
    has(&site.companion, "carts/ada", "kept").await?;
    // The answer leaves nothing behind: the next one goes on.
    let got = ask(
        &site.envoy,
        &[("update", "carts/ada;body"), ("value", "next")],
    )
    .await?;
    assert_eq!((got.status, got.body.as_str()), (200, "next"));
    counts(&site.envoy, "updates.stored", 2).await?;
    counts(&site.envoy, "in_flight", 0).await?;
    counts(&site.envoy, "instances.in_flight", 0).await
}

#[tokio::test]
async fn an_answer_whose_vm_dies_while_it_waits_ends_in_504() -> Result<()> {
    let filter = programs::trapping_filter()?;
    let site = site_with(json!({"mode": "sync", "timeout": "60s"}), 1, |config| {
        config.filter(&filter)?.edit_connections(|connections| {
            if let Some(fields) = connections.as_object_mut() {
                fields.insert("stream_idle_timeout".to_owned(), json!("2s"));
            }
            Ok(())
        })
    })
    .await?;
    signal(&site.companion, Signal::STOP)?;
    let update = [("update", "carts/ada"), ("value", "v")];
    let waits = ask(&site.envoy, &update);
    let kills = async {
        // It waits as soon as its update is counted.
        counts(&site.envoy, "instances.updates", 1).await?;
        let fatal = site
            .envoy
            .request("/")
            .header("x-user-id", "bob")
            .header("x-trap", "taken");
        drop(fatal.send().await);
        Ok::<_, anyhow::Error>(())
    };
    let (got, killed) = tokio::join!(waits, kills);
    killed?;
    assert_eq!(got?.status, 504);
    // The next VM goes on.
    signal(&site.companion, Signal::CONT)?;
    stores(&site.envoy, &update).await
}

#[tokio::test]
async fn an_instance_that_breaks_off_while_its_answer_waits_is_502() -> Result<()> {
    let site = site(json!({"mode": "sync"})).await?;
    for _ in 0..3 {
        let query = [
            ("update", "carts/ada;body"),
            ("size", "2000"),
            ("chunks", "4"),
            ("stream_ms", "50"),
            ("abort", "1"),
        ];
        let got = ask(&site.envoy, &query).await?;
        assert_eq!(got.status, 502, "{}", got.body);
    }
    // A part of a body is no value.
    assert_eq!(record(&site.companion, "carts/ada").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_503_in_place_of_an_answer_skips_filters_of_answers_before_it() -> Result<()> {
    // CORS adds a header to the answers of instances.
    let mut site = site_with(json!({"mode": "sync"}), 1, |config| {
        config.edit_connections(|connections| {
            let filters = connections
                .pointer_mut("/http_filters")
                .and_then(Value::as_array_mut);
            let cors = json!({"name": "envoy.filters.http.cors", "typed_config":
                {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}});
            filters
                .into_iter()
                .for_each(|filters| filters.insert(0, cors.clone()));
            let host = connections
                .pointer_mut("/route_config/virtual_hosts/0")
                .and_then(Value::as_object_mut);
            let policy = json!({"envoy.filters.http.cors": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
                "allow_origin_string_match": [{"exact": "http://page.example"}]}});
            host.into_iter().for_each(|host| {
                _ = host.insert("typed_per_filter_config".to_owned(), policy.clone())
            });
            Ok(())
        })
    })
    .await?;
    let from_page = async |envoy: &unitring_tests::envoy::Envoy| {
        let request = envoy.asking(&[("update", "carts/ada")])?;
        let answer = request
            .header("origin", "http://page.example")
            .send()
            .await?;
        let allowed = answer.headers().contains_key("access-control-allow-origin");
        Ok::<_, anyhow::Error>((answer.status().as_u16(), allowed))
    };
    assert_eq!(from_page(&site.envoy).await?, (200, true));
    site.companion.kill()?;
    // The page describes this, and the test fails if a new Envoy changes it.
    assert_eq!(from_page(&site.envoy).await?, (503, false));
    Ok(())
}

#[tokio::test]
async fn a_head_request_and_an_answer_without_a_body_have_an_empty_value() -> Result<()> {
    let site = site(json!({"mode": "sync"})).await?;
    let url = site.envoy.url("/?update=carts/head;body&size=10");
    let head = reqwest::Client::new()
        .request(Method::HEAD, url)
        .header("x-user-id", "ada")
        .send()
        .await?;
    assert_eq!(head.status(), 200);
    assert_eq!(
        record(&site.companion, "carts/head").await?.as_deref(),
        Some("")
    );
    let got = ask(
        &site.envoy,
        &[("update", "carts/none;body"), ("status", "204")],
    )
    .await?;
    assert_eq!(got.status, 204);
    assert_eq!(
        record(&site.companion, "carts/none").await?.as_deref(),
        Some("")
    );
    Ok(())
}
