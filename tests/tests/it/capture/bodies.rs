//! `;body`: the answer's body is the value.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::timeout;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;

use super::{ask, counts, has, record, site, site_with, stat, stores};

fn http2(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_cluster("orders", |cluster| {
        let options = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}});
        let fields = cluster.as_object_mut();
        fields.into_iter().for_each(|fields| {
            fields.insert(
                "typed_extension_protocol_options".to_owned(),
                options.clone(),
            );
        });
        Ok(())
    })
}

async fn becomes_the_value(
    mode: &str,
    change: fn(EnvoyConfig) -> Result<EnvoyConfig>,
) -> Result<()> {
    let site = site_with(json!({"mode": mode, "body_bytes_max": 100_000}), 1, change).await?;
    let large = "0123456789".repeat(7_000);
    for (number, (query, value)) in [
        (vec![("value", "two")], "two"),
        (vec![("value", "")], ""),
        (
            vec![("value", "caf\u{e9}"), ("content_type", "application/json")],
            "caf\u{e9}",
        ),
        (
            vec![("value", "in pieces"), ("chunks", "4"), ("stream_ms", "20")],
            "in pieces",
        ),
        (vec![("size", "70000")], &large),
        (vec![("size", "70000"), ("chunks", "7")], &large),
        (vec![("value", "and more"), ("trailers", "1")], "and more"),
        (
            vec![("size", "70000"), ("chunks", "3"), ("trailers", "1")],
            &large,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let update =
            format!("carts/{number};body;ttl=60s, carts/{number}-too;body, carts/{number}-not");
        let query: Vec<(&str, &str)> = query
            .into_iter()
            .chain([("update", update.as_str())])
            .collect();
        let got = ask(&site.envoy, &query).await?;
        assert_eq!((got.status, got.body.as_str()), (200, value), "{number}");
        assert_eq!(got.header("x-unitring-update"), None);
        for (name, value) in [("", value), ("-too", value), ("-not", "")] {
            let path = format!("carts/{number}{name}");
            if mode == "sync" {
                let stored = record(&site.companion, &path).await?;
                assert_eq!(stored.as_deref(), Some(value), "{path}");
            } else {
                has(&site.companion, &path, value).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn in_sync_it_becomes_the_value_before_the_caller_gets_it() -> Result<()> {
    becomes_the_value("sync", Ok).await
}

#[tokio::test]
async fn in_sync_over_http2_too() -> Result<()> {
    becomes_the_value("sync", http2).await
}

#[tokio::test]
async fn in_async_it_becomes_the_value_and_nobody_waits() -> Result<()> {
    becomes_the_value("async", Ok).await
}

#[tokio::test]
async fn in_async_over_http2_too() -> Result<()> {
    becomes_the_value("async", http2).await
}

#[tokio::test]
async fn a_body_over_the_limit_is_507_in_sync_whether_headers_tell_or_not() -> Result<()> {
    let site = site(json!({"mode": "sync", "body_bytes_max": 10_000})).await?;
    for chunks in [None, Some(("chunks", "5"))] {
        let query = [("update", "carts/ada;body"), ("size", "10001")];
        let query: Vec<_> = query.into_iter().chain(chunks).collect();
        let got = ask(&site.envoy, &query).await?;
        assert_eq!(got.status, 507, "{chunks:?}");
        assert_eq!(got.header("x-unitring-reason"), Some("update-too-large"));
        assert_eq!(got.header("retry-after"), None);
        assert!(got.body.contains("body_bytes_max"), "{}", got.body);
    }
    let fits = ask(
        &site.envoy,
        &[
            ("update", "carts/bob;body"),
            ("size", "10000"),
            ("chunks", "3"),
        ],
    )
    .await?;
    assert_eq!((fits.status, fits.body.len()), (200, 10_000));
    assert_eq!(record(&site.companion, "carts/ada").await?, None);
    counts(&site.envoy, "updates.oversized", 2).await?;
    // Without `body` the size does not matter, also far beyond Envoy's buffers.
    let large = ask(&site.envoy, &[("update", "carts/eve"), ("size", "5000000")]).await?;
    assert_eq!((large.status, large.body.len()), (200, 5_000_000));
    Ok(())
}

#[tokio::test]
async fn in_async_a_body_over_the_limit_is_an_update_without_value() -> Result<()> {
    let site = site(json!({"mode": "async", "body_bytes_max": 10_000})).await?;
    for (key, chunks) in [("a", None), ("b", Some(("chunks", "5")))] {
        let update = format!("carts/{key};body");
        let query = [("update", update.as_str()), ("size", "20000")];
        let query: Vec<_> = query.into_iter().chain(chunks).collect();
        let got = ask(&site.envoy, &query).await?;
        assert_eq!((got.status, got.body.len()), (200, 20_000));
        has(&site.companion, &format!("carts/{key}"), "").await?;
    }
    counts(&site.envoy, "updates.oversized", 2).await
}

/// The smallest buffer that Envoy has for a connection, to show that waiting bodies do not depend on it.
fn small_buffers(config: EnvoyConfig) -> Result<EnvoyConfig> {
    let config = config.edit_cluster("orders", |cluster| {
        let fields = cluster.as_object_mut();
        fields.into_iter().for_each(|fields| {
            fields.insert(
                "per_connection_buffer_limit_bytes".to_owned(),
                json!(32_768),
            );
        });
        Ok(())
    })?;
    config.edit(|json| {
        let listener = json.pointer_mut("/static_resources/listeners/0");
        let fields = listener.and_then(Value::as_object_mut);
        fields.into_iter().for_each(|fields| {
            fields.insert(
                "per_connection_buffer_limit_bytes".to_owned(),
                json!(32_768),
            );
        });
        Ok(())
    })
}

#[tokio::test]
async fn an_answer_that_waits_without_its_body_may_be_larger_than_the_buffer() -> Result<()> {
    let site = site_with(json!({"mode": "sync"}), 1, small_buffers).await?;
    let got = ask(&site.envoy, &[("update", "carts/ada"), ("size", "5000000")]).await?;
    assert_eq!((got.status, got.body.len()), (200, 5_000_000));
    assert_eq!(
        record(&site.companion, "carts/ada").await?.as_deref(),
        Some("")
    );
    Ok(())
}

#[tokio::test]
async fn where_envoy_shows_no_bodies_the_caller_gets_503_in_time_and_the_filter_tells() -> Result<()>
{
    let site = site_with(json!({"mode": "sync", "timeout": "500ms"}), 1, |config| {
        config.edit_filter_fields(|fields| {
            fields.remove("allow_on_headers_stop_iteration");
        })
    })
    .await?;
    let query = [("update", "carts/ada;body"), ("value", "v")];
    until("the filter to find out", async || {
        let got = ask(&site.envoy, &query).await?;
        assert_eq!(got.status, 503);
        ensure!(got.header("x-unitring-reason") == Some("update-unread"));
        Ok(())
    })
    .await?;
    // Without `body` all is well, if the companion keeps that short time.
    stores(&site.envoy, &[("update", "carts/ada")]).await?;
    until("the filter to tell of it", async || {
        ensure!(stat(&site.envoy, "wiring.response_body").await? == 1);
        let services = site.companion.get("/v1/services/orders").await?;
        let text = services.to_string();
        ensure!(text.contains("allow_on_headers_stop_iteration"), "{text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_body_that_takes_too_long_is_503_and_no_mistake_of_the_wiring() -> Result<()> {
    let site = site(json!({"mode": "sync", "timeout": "5s"})).await?;
    for slow in [("stream_ms", "14000"), ("delay_ms", "0")] {
        let query = [
            ("update", "carts/ada;body, carts/bob"),
            ("size", "30"),
            slow,
        ];
        let got = ask(&site.envoy, &query).await?;
        let late = (503, Some("update-late"));
        let seen = (got.status, got.header("x-unitring-reason"));
        ensure!(
            (seen == late) == (slow.0 == "stream_ms"),
            "{slow:?}: {seen:?}"
        );
    }
    // The update that needed no body is made; the other one is counted as lost.
    counts(&site.envoy, "updates.stored", 3).await?;
    counts(&site.envoy, "updates.dropped", 1).await?;
    counts(&site.envoy, "answers_replaced", 1).await?;
    assert_eq!(stat(&site.envoy, "updates.unread").await?, 0);
    assert_eq!(stat(&site.envoy, "wiring.response_body").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_end_is_no_value_and_is_counted() -> Result<()> {
    let site = site(json!({"mode": "async"})).await?;
    let query = [
        ("update", "carts/ada;body, carts/bob"),
        ("size", "30"),
        ("chunks", "3"),
        ("stream_ms", "60000"),
    ];
    let answer = site.envoy.asking(&query)?.send().await?;
    // The client leaves while it reads.
    let left = timeout(Duration::from_secs(1), answer.text()).await;
    ensure!(left.is_err());
    has(&site.companion, "carts/bob", "").await?;
    counts(&site.envoy, "updates.dropped", 1).await?;
    assert_eq!(record(&site.companion, "carts/ada").await?, None);
    Ok(())
}
