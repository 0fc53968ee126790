//! How many updates a second go from unit to unit while clients write as fast as they are answered, and
//! which process spends what on them.

use std::time::Duration;

use anyhow::Result;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::within;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::statistics::median;
use unitring_tests::usage;

use super::VALUE_BYTES;
use super::flood;
use super::units::{COMING_AND_GOING, Watch};

const UPDATES: u64 = 100_000;
const ROUNDS: u64 = 3;

/// The processes, and what each is called in the table.
const PROCESSES: [&str; 6] = [
    "the writer",
    "companion that is written to",
    "its Redis",
    "RabbitMQ",
    "the other companion",
    "its Redis",
];

/// Two units with nothing between them and their servers.
struct Pair {
    rabbit: Rabbit,
    units: [(Redis, Companion); 2],
}

struct Round {
    alone: f64,
    through: f64,
    drained: f64,
    used_us: [f64; PROCESSES.len()],
}

pub(crate) async fn measure() -> Result<()> {
    let alone = alone().await?;
    let pair = Pair::start().await?;
    let mut rounds = Vec::new();
    pair.round("warm", 20_000).await?;
    for round in 0..ROUNDS {
        let name = format!("alone-{round}");
        let written = flood::write(alone.1.port, &name, UPDATES).await?;
        let mut measured = pair.round(&format!("through-{round}"), UPDATES).await?;
        measured.alone = per_second(written.took);
        rounds.push(measured);
    }
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    println!("| | updates/s |\n|---|---:|");
    println!("| one unit without peers | {:.0} |", of(|it| it.alone)?);
    println!(
        "| from unit to unit, until the last is there | {:.0} |",
        of(|it| it.through)?
    );
    println!(
        "\nFrom the last answer to the last update in the other unit: {:.1} s.\n",
        of(|it| it.drained)?
    );
    println!("| process | processor time an update, µs |\n|---|---:|");
    for (number, name) in PROCESSES.iter().enumerate() {
        let used = rounds.iter().filter_map(|round| round.used_us.get(number));
        println!("| {name} | {:.1} |", median(used.copied())?);
    }
    println!(
        "\n{UPDATES} new records of {VALUE_BYTES} bytes a round through the HTTP API from 64 connections with 4 \
         requests in flight each, by a writer that only counts answers; from the first request on; everything on \
         this machine's cores; medians of {ROUNDS} rounds.\n"
    );
    Ok(())
}

fn per_second(took: Duration) -> f64 {
    f64::from(u32::try_from(UPDATES).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

async fn alone() -> Result<(Redis, Companion)> {
    let redis = saving_redis().await?;
    let companion = Settings::on_redis(&redis).start().await?;
    Ok((redis, companion))
}

/// As `unitring group create` sets it up.
async fn saving_redis() -> Result<Redis> {
    Redis::start_with(&["save \"\"", "appendonly yes", "appendfsync everysec"]).await
}

impl Pair {
    async fn start() -> Result<Self> {
        let rabbit = Rabbit::start().await?;
        let unit = async |name: &str, peer: &str| {
            let redis = saving_redis().await?;
            let settings = Settings::unit(name, &[peer], &redis, &rabbit);
            let companion = settings
                .variable("UNITRING_SYNC_DIGEST_INTERVAL", "10s")
                .start()
                .await?;
            anyhow::Ok((redis, companion))
        };
        let units = [unit("east", "north").await?, unit("north", "east").await?];
        for (_, companion) in &units {
            companion.is_ready().await?;
        }
        Ok(Self { rabbit, units })
    }

    fn used(&self) -> Result<[Duration; PROCESSES.len()]> {
        let [(east_redis, east), (north_redis, north)] = &self.units;
        let of = usage::processor_time;
        Ok([
            Duration::ZERO,
            of(east.id())?,
            of(east_redis.process().id())?,
            of(self.rabbit.process()?)?,
            of(north.id())?,
            of(north_redis.process().id())?,
        ])
    }

    async fn round(&self, name: &str, count: u64) -> Result<Round> {
        let [(_, east), (north_redis, _)] = &self.units;
        let mut watch = Watch::of(north_redis)?;
        let before = watch.keys()?;
        let used = self.used()?;
        let began = std::time::Instant::now();
        let written = flood::write(east.port, name, count).await?;
        within(Duration::from_secs(300), "the last update", async || {
            let keys = watch.keys()?;
            anyhow::ensure!(keys + COMING_AND_GOING >= before + count, "{keys} keys");
            Ok(())
        })
        .await?;
        let took = began.elapsed();
        let mut used_us = [0.0; PROCESSES.len()];
        let updates = f64::from(u32::try_from(count)?);
        for (us, (after, before)) in used_us.iter_mut().zip(self.used()?.iter().zip(used)) {
            *us = after.saturating_sub(before).as_secs_f64() * 1e6 / updates;
        }
        if let Some(us) = used_us.first_mut() {
            *us = written.used.as_secs_f64() * 1e6 / updates;
        }
        Ok(Round {
            alone: 0.0,
            through: updates / took.as_secs_f64(),
            drained: took.saturating_sub(written.took).as_secs_f64(),
            used_us,
        })
    }
}
