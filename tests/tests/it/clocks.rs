//! A companion whose machine has a clock a year ahead: nothing that expires later is lost, and it is told.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::programs;
use unitring_tests::redis::Redis;

const RECORD: &str = "/v1/data/profiles/hour";

/// With a clock that is a year ahead.
fn ahead(settings: Settings) -> Result<Settings> {
    let library = programs::part("libfaketime.so.1")?;
    Ok(settings
        .variable("LD_PRELOAD", library.to_str().context("no path")?)
        .variable("FAKETIME", "+31536000")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
}

async fn status_of(companion: &Companion, method: Method, query: &str) -> Result<u16> {
    let path = format!("{RECORD}{query}");
    let answer = companion.call(method, &path, b"kept".to_vec()).await?;
    Ok(answer.status().as_u16())
}

/// Runs a companion with these settings, then one whose clock is a year ahead, then the first again.
async fn keeps_it(settings: &Settings) -> Result<()> {
    let mut right = settings.start().await?;
    assert_eq!(status_of(&right, Method::PUT, "?ttl=1h").await?, 201);
    let units = right.get("/v1/units").await?;
    ensure!(units["clock_doubted_ms"].is_null(), "{units}");
    right.stop().await?;

    let mut wrong = ahead(settings.clone())?.start().await?;
    // A sweep finds it.
    wrong
        .counts("unitring_companion_clock_doubts_total 1")
        .await?;
    assert_eq!(status_of(&wrong, Method::GET, "").await?, 404);
    let units = wrong.get("/v1/units").await?;
    let doubted_ms = units["clock_doubted_ms"].as_u64().context("not doubted")?;
    ensure!(doubted_ms > 31_000_000_000, "{doubted_ms}");
    let (_, status) = wrong.ask(&["status"])?;
    ensure!(status.contains("clock"), "{status}");
    ensure!(wrong.log().contains("nothing that expires later is freed"));
    wrong.stop().await?;

    let right = settings.start().await?;
    assert_eq!(status_of(&right, Method::GET, "").await?, 200);
    until("the doubt to be over", async || {
        let units = right.get("/v1/units").await?;
        ensure!(units["clock_doubted_ms"].is_null(), "{units}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_opened_by_a_clock_a_year_ahead_loses_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("unit.redb");
    let path = path.to_str().context("no path")?;
    keeps_it(&Settings::default().variable("UNITRING_STORE_PATH", path)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_of_a_redis_whose_clock_is_a_year_ahead_frees_nothing() -> Result<()> {
    let redis = Redis::start().await?;
    keeps_it(&Settings::on_redis(&redis)).await
}
