//! The cost of traces for the companion: its CPU for a write, with and without a collector, in the same run. Prints a
//! table; `make bench AREA=traces` puts it into the docs.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Client;
use unitring_tests::collector::Collector;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::redis::Redis;
use unitring_tests::statistics::median;
use unitring_tests::usage::processor_time;

/// Writes of one measurement.
const WRITES: usize = 8_000;
/// Clients, each of which waits for its answer.
const CLIENTS: usize = 8;
/// Measurements of each case; the medians are shown.
const ROUNDS: usize = 7;
/// By then what a measurement left to send is sent.
const SETTLE: Duration = Duration::from_millis(1_500);

fn main() -> Result<()> {
    unitring_tests::process::be_quiet();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let (redis, collector) = (Redis::start().await?, Collector::start().await?);
    let off = Settings::on_redis(&redis);
    let on = off
        .clone()
        .variable("UNITRING_TRACE_OTLP", &collector.url());
    let none = on.clone().variable("UNITRING_TRACE_SAMPLE", "0");
    let one = on.clone().variable("UNITRING_TRACE_SAMPLE", "0.01");
    let cases = [
        ("no collector", off.start().await?),
        ("a collector, no request traced", none.start().await?),
        ("one in a hundred traced", one.start().await?),
        ("every request traced", on.start().await?),
    ];
    for (_, companion) in &cases {
        companion.is_ready().await?;
        write(companion).await?;
    }
    let mut took = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, companion), took) in cases.iter().zip(&mut took) {
            tokio::time::sleep(SETTLE).await;
            let before = processor_time(companion.id())?;
            write(companion).await?;
            tokio::time::sleep(SETTLE).await;
            let spent = processor_time(companion.id())?.saturating_sub(before);
            took.push(spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(WRITES)?));
        }
    }
    let first = took.first().context("no cases")?.clone();
    println!(
        "| {WRITES} writes by {CLIENTS} clients, on Redis | companion, µs of CPU a write | ratio |"
    );
    println!("|---|---:|---:|");
    for ((title, _), took) in cases.iter().zip(&took) {
        let ratios = took.iter().zip(&first).map(|(took, first)| took / first);
        let (us, ratio) = (median(took.iter().copied())?, median(ratios)?);
        println!("| {title} | {us:.1} | {ratio:.2} |");
    }
    let (_, all) = cases.last().context("no cases")?;
    let lost = all.metric("unitring_companion_spans_lost_total").await?;
    ensure!(lost == 0.0, "{lost} spans were lost");
    Ok(())
}

async fn write(companion: &Companion) -> Result<()> {
    let client = Client::new();
    let clients = (0..CLIENTS).map(|from| {
        let client = client.clone();
        async move {
            for number in (from..WRITES).step_by(CLIENTS) {
                let url = format!("http://127.0.0.1:{}/v1/data/bench/{number}", companion.port);
                let answer = client.put(url).body("a value").send().await?;
                ensure!(answer.status().is_success(), "{}", answer.status());
            }
            Ok(())
        }
    });
    try_join_all(clients).await?;
    Ok(())
}
