//! The cost of data updates from answers: instructions of Envoy, time that answers take longer, and how many one
//! companion takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::envoy::Envoy;
use unitring_tests::redis::Redis;
use unitring_tests::statistics::{median, quantile};

use crate::base::Base;
use crate::clients::{Client, Owners};
use crate::counted;
use crate::systems::{INSTANCES, System};
use crate::upstream::Upstream;

/// Pairs of requests, with and without an update.
const PAIRS: usize = 2_000;
/// Pairs before the first that counts.
const WARM_UP: usize = 500;
/// Rounds of each measurement of throughput, and how long one takes.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(3);
/// Connections that send requests at the same time.
const CONNECTIONS: usize = 32;
/// Updates of a batch that comes to the companion without Envoy, and how many batches are under way.
const BATCH: usize = 256;
const BATCHES: usize = 4;

/// The update of most rows: a record without a value.
const UPDATE: &str = "carts/KEY;ttl=60s";
/// The same with the answer's body as its value.
const BODY: &str = "carts/KEY;ttl=60s;body";

/// Prints all tables, or those whose name contains `only`.
pub(crate) async fn measure(only: Option<&str>) -> Result<()> {
    let wanted = |part: &str| only.is_none_or(|only| part.contains(only));
    let upstream = Upstream::start(INSTANCES).await?;
    let redis = Redis::start_with(&["save \"\"", "appendonly yes", "appendfsync everysec"]).await?;
    let on_redis = Settings::on_redis(&redis).start().await?;
    let base = Base::new(&upstream.addresses, &on_redis)?;
    if wanted("instructions") {
        instructions(&base).await?;
    }
    if wanted("latency") {
        println!("| answer with an update | without, p50 | p99 | with, p50 | p99 | longer, p50 |");
        println!("|---|---:|---:|---:|---:|---:|");
        latency(&base, "Redis").await?;
        let embedded = Settings::default().start().await?;
        latency(
            &Base::new(&upstream.addresses, &embedded)?,
            "the embedded store",
        )
        .await?;
        println!();
    }
    if wanted("throughput") {
        println!("| what the companion takes | a second |");
        println!("|---|---:|");
        throughput(&base, &on_redis, "Redis").await?;
        batches(&on_redis, "Redis").await?;
        let embedded = Settings::default().start().await?;
        let base = Base::new(&upstream.addresses, &embedded)?;
        throughput(&base, &embedded, "the embedded store").await?;
        batches(&embedded, "the embedded store").await?;
    }
    Ok(())
}

async fn instructions(base: &Base) -> Result<()> {
    let rows = [
        base.capturing("`off`", "off", None)?,
        base.capturing("`count`, no update", "count", None)?,
        base.capturing("`async`, no update", "async", None)?,
        base.capturing("`sync`, no update", "sync", None)?,
        base.capturing("`count`, an update", "count", Some(UPDATE))?,
        base.capturing("`async`, an update", "async", Some(UPDATE))?,
        base.capturing("`async`, an update with `;body`", "async", Some(BODY))?,
        base.capturing("`sync`, an update", "sync", Some(UPDATE))?,
        base.capturing("`sync`, an update with `;body`", "sync", Some(BODY))?,
    ];
    let counted = counted::measure(&rows, &Owners::new()).await?;
    let off = counted.first().copied().unwrap_or(f64::NAN);
    println!("| `capture.mode`, answer | instructions a request | against `off` |");
    println!("|---|---:|---:|");
    for (row, counted) in rows.iter().zip(&counted) {
        let (thousands, ratio) = (counted / 1e3, counted / off);
        println!("| {} | {thousands:.1} k | {ratio:.3} |", row.name);
    }
    println!();
    Ok(())
}

/// Alternates requests with and without an update, so that both meet the same noise.
async fn latency(base: &Base, store: &str) -> Result<()> {
    for (mode, update, name) in [
        ("async", UPDATE, "`async`"),
        ("sync", UPDATE, "`sync`"),
        ("sync", BODY, "`sync`, `;body`"),
    ] {
        let without = base.capturing("", mode, None)?;
        let with = base.capturing("", mode, Some(update))?;
        let envoy = Envoy::start(&without.config).await?;
        without.is_ready(&envoy).await?;
        let mut clients = [
            Client::connect(&envoy, &without, &Owners::new()).await?,
            Client::connect(&envoy, &with, &Owners::new()).await?,
        ];
        let (mut times, mut longer) = ([Vec::new(), Vec::new()], Vec::new());
        for pair in 0..WARM_UP + PAIRS {
            let mut took = [0.0; 2];
            for (client, took) in clients.iter_mut().zip(&mut took) {
                let began = Instant::now();
                client.send(1).await?;
                *took = began.elapsed().as_secs_f64() * 1e6;
            }
            if pair >= WARM_UP {
                longer.push(took[1] - took[0]);
                times
                    .iter_mut()
                    .zip(took)
                    .for_each(|(times, took)| times.push(took));
            }
        }
        let [without, with] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            [0.5, 0.99].map(|share| quantile(&times, share).unwrap_or(f64::NAN))
        });
        println!(
            "| {name}, on {store} | {:.0} µs | {:.0} µs | {:.0} µs | {:.0} µs | {:.0} µs |",
            without[0],
            without[1],
            with[0],
            with[1],
            median(longer)?
        );
    }
    Ok(())
}

/// Updates a second through Envoy, by requests that wait for them and by requests that do not.
async fn throughput(base: &Base, companion: &Companion, store: &str) -> Result<()> {
    for (mode, update, name) in [
        ("off", UPDATE, "requests with `off`, for comparison"),
        ("sync", UPDATE, "updates by `sync`"),
        ("sync", BODY, "updates by `sync`, `;body`"),
        ("async", UPDATE, "updates by `async`"),
    ] {
        let system = System {
            workers: 2,
            ..base.capturing("", mode, Some(update))?
        };
        let config = system.config.clone().balanced()?;
        let envoy = Envoy::start_with_workers(&config, 2).await?;
        system.is_ready(&envoy).await?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(&envoy, &system, &Owners::new()).await?);
        }
        let mut rates = Vec::new();
        for _ in 0..=ROUNDS {
            let (before, began) = (applied(companion).await?, Instant::now());
            let sent = try_join_all(clients.iter_mut().map(async |client| {
                let mut sent = 0_u32;
                while began.elapsed() < ROUND {
                    client.send(1).await?;
                    sent += 1;
                }
                Ok::<_, anyhow::Error>(sent)
            }));
            let sent: u32 = sent.await?.into_iter().sum();
            let count = match mode {
                "off" => f64::from(sent),
                _ => applied(companion).await? - before,
            };
            rates.push(count / began.elapsed().as_secs_f64());
        }
        // The first one warms up.
        rates.remove(0);
        println!("| {name}, on {store} | {:.0} |", median(rates)?);
    }
    Ok(())
}

async fn applied(companion: &Companion) -> Result<f64> {
    companion
        .metric("unitring_companion_updates_total{outcome=\"applied\"}")
        .await
}

/// Updates a second as filters send them, without Envoy and its clients beside.
async fn batches(companion: &Companion, store: &str) -> Result<()> {
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let began = Instant::now();
        let sent = try_join_all((0..BATCHES).map(async |vm| {
            let client = reqwest::Client::new();
            let (mut sent, mut sequence) = (0_usize, 1_u64 + u64::try_from(round)? * 1_000_000_000);
            while began.elapsed() < ROUND {
                let updates = (0..BATCH).map(|number| {
                    sequence += 1;
                    json!({"sequence": sequence, "dataset": "bench", "key": format!("{vm}-{number}"),
                        "ttl_ms": 60_000, "value": "MDEyMzQ1Njc4OTAxMjM0NTY3ODk="})
                });
                let updates: Vec<_> = updates.collect();
                let body = json!({"version": 1, "source": "bench", "vm": vm, "service": "orders", "updates": updates});
                let url = format!("http://127.0.0.1:{}/v1/updates", companion.port);
                let answer = client.post(url).json(&body).send().await?;
                ensure!(answer.status() == 200, "{}", answer.status());
                let text = answer.text().await?;
                ensure!(!text.contains("failed"), "{text}");
                sent += BATCH;
            }
            Ok::<_, anyhow::Error>(sent)
        }));
        let sent: usize = sent.await?.into_iter().sum();
        let sent = u32::try_from(sent).context("too many")?;
        rates.push(f64::from(sent) / began.elapsed().as_secs_f64());
    }
    rates.remove(0);
    println!(
        "| updates in batches of {BATCH} without Envoy beside, on {store} | {:.0} |",
        median(rates)?
    );
    Ok(())
}
