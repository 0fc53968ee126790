//! A flood of updates with the companion away: bounded memory, and every loss is counted.

use anyhow::{Result, ensure};
use futures_util::stream::{StreamExt as _, iter};
use rustix::process::Signal;
use serde_json::json;
use unitring_tests::deadline::until;

use super::traps::signal;
use super::{ask, counts, has, of_instances, site, stat, stores};

/// Values of 10 kB, of which the queue holds at most 100, or 1 MiB.
const UPDATES: u64 = 4_000;
const QUEUE: u64 = 100;

#[tokio::test]
async fn async_drops_the_oldest_and_a_worker_keeps_its_size() -> Result<()> {
    let mut site =
        site(json!({"mode": "async", "queue_max": QUEUE, "queue_bytes_max": 1 << 20})).await?;
    site.companion.kill()?;
    let send = async |from: u64, to: u64| {
        let all = iter(from..to).map(|number| {
            let envoy = &site.envoy;
            async move {
                let update = format!("carts/{number};body");
                let got = ask(envoy, &[("update", &update), ("size", "10000")]).await?;
                ensure!(got.status == 200, "{}", got.status);
                Ok(())
            }
        });
        let all: Vec<Result<()>> = all.buffer_unordered(16).collect().await;
        all.into_iter().collect::<Result<Vec<()>>>()
    };
    // The first ones fill what Envoy and the VM allocate once.
    send(0, UPDATES / 4).await?;
    let before = site.envoy.resident_bytes()?;
    send(UPDATES / 4, UPDATES).await?;
    let more = site.envoy.resident_bytes()?.saturating_sub(before);
    println!("{} KiB more", more >> 10);
    // 30 MB of values have passed.
    ensure!(more < 8 << 20, "{more} bytes more");
    counts(&site.envoy, "instances.updates", UPDATES).await?;
    counts(&site.envoy, "instances.update_bytes", UPDATES * 10_000).await?;
    site.companion.restart().await?;
    has(
        &site.companion,
        &format!("carts/{}", UPDATES - 1),
        &"0123456789".repeat(1_000),
    )
    .await?;
    until(
        "every update to be stored or counted as dropped",
        async || {
            let stored = stat(&site.envoy, "updates.stored").await?;
            let dropped = stat(&site.envoy, "updates.dropped").await?;
            ensure!(
                stored + dropped == UPDATES,
                "{stored} stored, {dropped} dropped"
            );
            ensure!((1..=QUEUE).contains(&stored), "{stored} stored");
            ensure!(of_instances(&site.envoy, "updates_dropped").await? == dropped);
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn sync_refuses_what_does_not_fit_and_holds_no_more() -> Result<()> {
    // None is given up before the last one has come.
    let site = site(json!({"mode": "sync", "queue_max": 10, "timeout": "10s"})).await?;
    // A batch that hangs keeps the others waiting.
    signal(&site.companion, Signal::STOP)?;
    let all = (0..40).map(|number| {
        let envoy = &site.envoy;
        async move {
            let update = format!("carts/{number}");
            let got = ask(envoy, &[("update", &update)]).await?;
            let reason = got
                .header("x-unitring-reason")
                .unwrap_or_default()
                .to_owned();
            Ok::<_, anyhow::Error>((got.status, reason))
        }
    });
    let mut full = 0;
    for got in futures_util::future::join_all(all).await {
        let (status, reason) = got?;
        assert_eq!(status, 503, "{reason}");
        full += usize::from(reason == "update-full");
    }
    assert_eq!(full, 30);
    signal(&site.companion, Signal::CONT)?;
    stores(&site.envoy, &[("update", "carts/ada")]).await
}

/// Some 300 answers that are replaced in one call into a VM exhaust its stack: seen on 1.40.0.
#[tokio::test]
async fn a_companion_that_hangs_under_load_costs_no_vm() -> Result<()> {
    const CLIENTS: usize = 700;
    let site = site(json!({"mode": "sync", "timeout": "2s"})).await?;
    signal(&site.companion, Signal::STOP)?;
    let all = (0..CLIENTS).map(|number| {
        let envoy = &site.envoy;
        async move {
            let update = format!("carts/{number}");
            let got = ask(envoy, &[("update", &update)]).await?;
            ensure!(got.header("x-unitring-reason").is_some(), "{}", got.body);
            Ok::<_, anyhow::Error>(got.status)
        }
    });
    for status in futures_util::future::join_all(all).await {
        assert_eq!(status?, 503);
    }
    signal(&site.companion, Signal::CONT)?;
    stores(&site.envoy, &[("update", "carts/ada")]).await?;
    until("every answer that was replaced to be counted", async || {
        let replaced = stat(&site.envoy, "answers_replaced").await?;
        ensure!(replaced >= u64::try_from(CLIENTS)?, "{replaced}");
        Ok(())
    })
    .await?;
    let log = site.envoy.log();
    ensure!(
        !log.contains("RangeError") && !log.contains("wasm trap"),
        "{log}"
    );
    counts(&site.envoy, "in_flight", 0).await
}

#[tokio::test]
async fn what_waited_for_a_companion_that_hung_is_stored_by_it() -> Result<()> {
    const UPDATES: usize = 1_200;
    let site = site(json!({"mode": "async", "timeout": "1s"})).await?;
    signal(&site.companion, Signal::STOP)?;
    let all = iter(0..UPDATES).map(|number| {
        let envoy = &site.envoy;
        async move {
            let update = format!("carts/{number};body");
            ensure!(
                ask(envoy, &[("update", &update), ("value", "v")])
                    .await?
                    .status
                    == 200
            );
            Ok(())
        }
    });
    let all: Vec<Result<()>> = all.buffer_unordered(32).collect().await;
    all.into_iter().collect::<Result<Vec<()>>>()?;
    signal(&site.companion, Signal::CONT)?;
    counts(&site.envoy, "updates.stored", u64::try_from(UPDATES)?).await?;
    assert_eq!(stat(&site.envoy, "updates.dropped").await?, 0);
    Ok(())
}
