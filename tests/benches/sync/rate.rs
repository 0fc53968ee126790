//! How many updates a second two units carry, against what they are made of: RabbitMQ alone, and the
//! replication of Redis.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use unitring_tests::deadline::until;
use unitring_tests::proxy::Link;
use unitring_tests::redis::Redis;
use unitring_tests::statistics::median;
use unitring_tests::unit_group::UnitGroup;

use super::VALUE_BYTES;
use super::flood;
use super::pipe::Pipe;
use super::units::{self, Watch};

const UPDATES: u64 = 50_000;
const PAIRS: u64 = 5;
/// Updates in a message of the second pipe: about as many as unitring puts into one of its own.
const IN_MESSAGE: usize = 500;
/// The number of messages with them, since a few would be over at once.
const MESSAGES: usize = 1_000;

struct Round {
    written: f64,
    waiting: f64,
    live: f64,
    pipe: f64,
    packed: f64,
    redis: f64,
}

pub(crate) async fn measure() -> Result<()> {
    let group = units::start(|settings| settings).await?;
    let east = &group.member("east")?.companion;
    let bytes = east
        .metric("unitring_companion_bytes_published_total")
        .await?;
    let ops = east
        .metric("unitring_companion_ops_published_total")
        .await?;
    let pipe = Pipe::start().await?;
    let redis = Replicated::start().await?;
    let mut rounds = Vec::new();
    // The bytes of an update on the wire, so that the pipe carries the same.
    let bytes = (bytes / ops).max(1.0).to_string();
    let bytes: usize = bytes.split('.').next().unwrap_or("1").parse()?;
    let messages = usize::try_from(UPDATES)?;
    for round in 0..PAIRS {
        let (written, waiting) = waiting(&group, round).await?;
        let one_by_one = pipe.carry(messages, bytes).await?;
        let live = live(&group, round).await?;
        let packed = pipe.carry(MESSAGES, bytes * IN_MESSAGE).await?;
        rounds.push(Round {
            written,
            waiting,
            live,
            pipe: one_by_one,
            packed: packed * f64::from(u32::try_from(IN_MESSAGE)?),
            redis: redis.carry(round)?,
        });
    }
    println!("| | updates/s | of the pipe | of Redis |");
    println!("|---|---:|---:|---:|");
    let row = |title: &str, of: fn(&Round) -> f64| -> Result<()> {
        let figures = |by: fn(&Round) -> f64| median(rounds.iter().map(|it| of(it) / by(it)));
        println!(
            "| {title} | {:.0} | {:.2} | {:.2} |",
            median(rounds.iter().map(of))?,
            figures(|round| round.pipe)?,
            figures(|round| round.redis)?,
        );
        Ok(())
    };
    row("two units, updates that wait in the outbox", |it| {
        it.waiting
    })?;
    row("two units, updates that come through the HTTP API", |it| {
        it.live
    })?;
    row("one unit, the same, its link cut", |it| it.written)?;
    row("the pipe: lapin, a message an update", |it| it.pipe)?;
    row("the pipe, 500 updates a message", |it| it.packed)?;
    row("Redis' replication, `SET` on a full pipeline", |it| {
        it.redis
    })?;
    println!(
        "\n{UPDATES} updates of {VALUE_BYTES} bytes, {bytes} with what unitring says of each, which is what the pipe carries; from the first \
         tenth that has arrived to the last; everything on this machine, so all share its cores; medians of \
         {PAIRS} rounds, in each of which all five run one after the other.\n"
    );
    Ok(())
}

/// The link is cut while they are written: at which rate they are written, and at which they are sent then.
async fn waiting(group: &UnitGroup, round: u64) -> Result<(f64, f64)> {
    let (east, north) = (group.member("east")?, group.member("north")?);
    let mut watch = Watch::of(&north.redis)?;
    let before = watch.keys()?;
    east.links.iter().for_each(|link| link.set(Link::Cut));
    let written = flood::write(east.companion.port, &format!("waiting-{round}"), UPDATES).await?;
    let written = f64::from(u32::try_from(UPDATES)?) / written.took.as_secs_f64();
    let watching = tokio::task::spawn_blocking(move || watch.rate(before, UPDATES));
    for link in &east.links {
        link.set(Link::Up(Duration::ZERO));
    }
    let rate = watching.await??;
    units::settled(group).await?;
    Ok((written, rate))
}

async fn live(group: &UnitGroup, round: u64) -> Result<f64> {
    let (east, north) = (group.member("east")?, group.member("north")?);
    let mut watch = Watch::of(&north.redis)?;
    let before = watch.keys()?;
    let watching = tokio::task::spawn_blocking(move || watch.rate(before, UPDATES));
    flood::write(east.companion.port, &format!("live-{round}"), UPDATES).await?;
    let rate = watching.await??;
    units::settled(group).await?;
    Ok(rate)
}

/// A primary and its replica.
struct Replicated {
    primary: Redis,
    replica: Redis,
}

impl Replicated {
    async fn start() -> Result<Self> {
        let saves = ["save \"\"", "appendonly yes", "appendfsync everysec"];
        let primary = Redis::start_with(&saves).await?;
        let of = format!("replicaof 127.0.0.1 {}", primary.port);
        let [save, append, sync] = saves;
        let replica = Redis::start_with(&[save, append, sync, &of]).await?;
        until("the replica to follow", async || {
            let info = replica.cli(&["INFO", "replication"])?;
            ensure!(info.contains("master_link_status:up"), "{info}");
            Ok(())
        })
        .await?;
        Ok(Self { primary, replica })
    }

    fn carry(&self, round: u64) -> Result<f64> {
        let value = "v".repeat(VALUE_BYTES);
        let commands: String = (0..UPDATES)
            .map(|number| format!("SET bench/{round}/{number} {value}\r\n"))
            .collect();
        let mut watch = Watch::of(&self.replica)?;
        let before = watch.keys()?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.primary.port))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch.rate(before, UPDATES));
            let send = scope.spawn(move || stream.write_all(commands.as_bytes()));
            let mut answer = [0; 5];
            for _ in 0..UPDATES {
                answers.read_exact(&mut answer)?;
                ensure!(
                    &answer == b"+OK\r\n",
                    "{}",
                    String::from_utf8_lossy(&answer)
                );
            }
            send.join().map_err(|_| anyhow!("the sender broke"))??;
            watching.join().map_err(|_| anyhow!("the watch broke"))?
        })
    }
}
