//! Bad settings are refused before the first request, in one line with path, value and rule.

use anyhow::Result;
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::Envoy;

/// Envoy must not start, and one line of its log must have all of `parts`.
async fn refuses(path: &str, value: Value, parts: &[&str]) -> Result<()> {
    let config = EnvoyConfig::shipped("envoy.yaml")?.setting(path, value)?;
    let log = Envoy::refuses(&config).await?;
    let told = log
        .lines()
        .any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(told, "no line with all of {parts:?} in:\n{log}");
    Ok(())
}

#[tokio::test]
async fn a_bad_value_is_refused_with_path_value_and_rule() -> Result<()> {
    refuses(
        "load.balance_factor",
        json!(50),
        &["load.balance_factor", "50", "100"],
    )
    .await?;
    refuses(
        "discovery.interval",
        json!("soon"),
        &["discovery.interval", "soon", "duration"],
    )
    .await?;
    refuses(
        "key",
        json!([{"header": "a b"}]),
        &["key[0].header", "a b", "header name"],
    )
    .await
}

#[tokio::test]
async fn an_unknown_field_is_refused_and_the_known_ones_are_named() -> Result<()> {
    refuses(
        "load.balance_facto",
        json!(125),
        &["load.balance_facto", "125", "balance_factor"],
    )
    .await
}

#[tokio::test]
async fn a_missing_service_is_refused() -> Result<()> {
    refuses("service", Value::Null, &["service", "required"]).await
}

#[tokio::test]
async fn a_mode_of_capture_that_there_is_not_is_refused_and_the_others_are_named() -> Result<()> {
    refuses(
        "capture.mode",
        json!("later"),
        &[
            "capture.mode",
            "later",
            "must be one of off, count, async, sync",
        ],
    )
    .await
}
