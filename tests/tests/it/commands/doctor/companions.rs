//! The findings of `doctor` in a companion, its Redis and the other units.

use anyhow::{Result, ensure};
use unitring_tests::companion::Settings;
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::site::UnitNode;

use super::super::url;
use super::finds;

#[tokio::test]
async fn a_redis_that_forgets_is_found_until_it_is_mended_as_told() -> Result<()> {
    let lines = [
        "save \"\"",
        "appendonly no",
        "maxmemory 100mb",
        "maxmemory-policy allkeys-lru",
    ];
    let redis = Redis::start_with(&lines).await?;
    let companion = Settings::on_redis(&redis).start().await?;
    companion.is_ready().await?;
    let at = url(companion.port);
    let told = finds(&["--url", &at], 1, &["UR0601", "UR0602"])?;
    let seen = told["findings"][0]["seen"].as_str().unwrap_or_default();
    ensure!(
        seen == "maxmemory-policy is allkeys-lru, maxmemory is 104857600 bytes",
        "{told:#}"
    );
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])?;
    redis.cli(&["CONFIG", "SET", "save", "3600 1"])?;
    finds(&["--url", &at], 0, &["UR0603"])?;
    redis.cli(&["CONFIG", "SET", "appendonly", "yes"])?;
    finds(&["--url", &at, "--fail-on", "warn"], 0, &[])?;
    Ok(())
}

#[tokio::test]
async fn a_redis_that_does_not_tell_is_believed() -> Result<()> {
    let lines = [
        "save \"\"",
        "appendonly yes",
        "rename-command CONFIG \"\"",
        "rename-command INFO \"\"",
    ];
    let redis = Redis::start_with(&lines).await?;
    let companion = Settings::on_redis(&redis).start().await?;
    companion.is_ready().await?;
    finds(
        &["--url", &url(companion.port), "--fail-on", "warn"],
        0,
        &[],
    )?;
    Ok(())
}

#[tokio::test]
async fn a_companion_that_wants_a_token_says_so() -> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "secret")
        .start()
        .await?;
    let at = url(companion.port);
    finds(&["--url", &at], 0, &["UR0507"])?;
    let with = ["--url", &at, "--token", "secret", "--fail-on", "warn"];
    until("the companion to be ready", async || finds(&with, 0, &[])).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_and_a_record_that_do_not_get_through_are_found() -> Result<()> {
    let mut rabbit = Rabbit::start_with(&["max_message_size = 1000000"]).await?;
    let east = UnitNode::start("east", &["west"], &rabbit).await?;
    let _west = UnitNode::start("west", &["east"], &rabbit).await?;
    let at = url(east.companion.port);
    let well = ["--url", &at, "--fail-on", "warn"];
    until("both units to be well", async || finds(&well, 0, &[])).await?;
    east.companion
        .put_record("large", &"x".repeat(1 << 20))
        .await?;
    until("the record to be named", async || {
        finds(&well, 1, &["UR0703"])
    })
    .await?;
    east.companion.put_record("large", "no more").await?;
    until("it to be sent", async || finds(&well, 0, &[])).await?;
    rabbit.kill()?;
    until("the link to be down", async || {
        finds(&well, 1, &["UR0504", "UR0701"])
    })
    .await?;
    Ok(())
}
