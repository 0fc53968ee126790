//! From the request that writes a record in one unit to the record in the Redis of the other.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::watch;
use unitring_tests::raw::Raw;
use unitring_tests::statistics::{median, quantile};
use unitring_tests::unit_group::UnitGroup;

use super::VALUE_BYTES;
use super::flood::{WRITERS, put};
use super::units::{self, Watch};

const RATES: [u32; 3] = [100, 1_000, 5_000];
const ROUNDS: usize = 3;
/// Records of a round that are watched, one after the other.
const SAMPLES: usize = 400;
const BETWEEN_SAMPLES: Duration = Duration::from_millis(10);
/// The approximate number of sampled writes a second, beside the others.
const SAMPLED: f64 = 50.0;
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

struct Seen {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    told_p99_ms: f64,
    bytes: f64,
}

pub(crate) async fn measure() -> Result<()> {
    let group = units::start(|settings| settings).await?;
    let mut seen: Vec<Vec<Seen>> = RATES.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (rate, seen) in RATES.iter().zip(&mut seen) {
            seen.push(at(&group, *rate, round).await?);
            units::settled(&group).await?;
        }
    }
    println!(
        "| updates/s | reached | lag p50, ms | lag p99, ms | the companion says, p99, ms | bytes an update |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for (rate, seen) in RATES.iter().zip(&seen) {
        let of = |figure: fn(&Seen) -> f64| median(seen.iter().map(figure));
        println!(
            "| {rate} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} |",
            of(|seen| seen.per_second)?,
            of(|seen| seen.p50_ms)?,
            of(|seen| seen.p99_ms)?,
            of(|seen| seen.told_p99_ms)?,
            of(|seen| seen.bytes)?,
        );
    }
    println!(
        "\nValues of {VALUE_BYTES} bytes, written through the HTTP API; from the beginning of the request to the record \
         in the other unit's Redis, looked for every {} µs; {SAMPLES} records a round are watched; bytes of AMQP messages without \
         its framing; medians of {ROUNDS} rounds.\n",
        BETWEEN_LOOKS.as_micros()
    );
    Ok(())
}

async fn at(group: &UnitGroup, rate: u32, round: usize) -> Result<Seen> {
    let (east, north) = (group.member("east")?, group.member("north")?);
    let bytes = east
        .companion
        .metric("unitring_companion_bytes_published_total")
        .await?;
    let ops = east
        .companion
        .metric("unitring_companion_ops_published_total")
        .await?;
    let (stop, stopped) = watch::channel(false);
    let writers = f64::from(u32::try_from(WRITERS)?);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let name = format!("lag-{rate}-{round}-{writer}");
            tokio::spawn(write(
                east.companion.port,
                name,
                (f64::from(rate) - SAMPLED).max(1.0) / writers,
                stopped.clone(),
            ))
        })
        .collect();
    let start = Instant::now();
    let mut watch = Watch::of(&north.redis)?;
    let mut connection = Raw::connect_from(Ipv4Addr::LOCALHOST, east.companion.port).await?;
    let mut lags = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES {
        tokio::time::sleep(BETWEEN_SAMPLES).await;
        let key = format!("sample-{rate}-{round}-{sample}");
        let sent = Instant::now();
        units::send(&mut connection, &[put(&key)]).await?;
        tokio::task::block_in_place(|| {
            while !watch.has(&key)? {
                std::thread::sleep(BETWEEN_LOOKS);
            }
            anyhow::Ok(())
        })?;
        lags.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    stop.send_replace(true);
    let mut written = SAMPLES;
    for writer in writers {
        written += writer.await??;
    }
    let per_second = u32::try_from(written).map(f64::from)? / start.elapsed().as_secs_f64();
    let units = north.companion.get("/v1/units").await?;
    let told = units.pointer("/sync/links/east/lag/p99_ms");
    let told = told.and_then(serde_json::Value::as_f64);
    let told_p99_ms = told.context("no lag is told")?;
    units::settled(group).await?;
    let bytes = east
        .companion
        .metric("unitring_companion_bytes_published_total")
        .await?
        - bytes;
    let ops = east
        .companion
        .metric("unitring_companion_ops_published_total")
        .await?
        - ops;
    ensure!(ops > 0.0, "nothing was published");
    lags.sort_by(f64::total_cmp);
    Ok(Seen {
        per_second,
        p50_ms: quantile(&lags, 0.5).context("no lag")?,
        p99_ms: quantile(&lags, 0.99).context("no lag")?,
        told_p99_ms,
        bytes: bytes / ops,
    })
}

/// Writes at a steady rate until it is stopped. Returns the number of writes.
async fn write(
    port: u16,
    name: String,
    per_second: f64,
    stopped: watch::Receiver<bool>,
) -> Result<usize> {
    let mut connection = Raw::connect_from(Ipv4Addr::LOCALHOST, port).await?;
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    let (start, mut written) = (Instant::now(), 0.0);
    let mut count = 0;
    while !*stopped.borrow() {
        tick.tick().await;
        let mut due = Vec::new();
        while written < start.elapsed().as_secs_f64() * per_second {
            due.push(put(&format!("{name}-{count}")));
            written += 1.0;
            count += 1;
        }
        units::send(&mut connection, &due).await?;
    }
    Ok(count)
}
