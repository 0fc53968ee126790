//! The cost of a TCP connection in Envoy: unitring's way, by a tunnel inside Envoy, against a plain `tcp_proxy` that hashes
//! the client's address. `make bench AREA=tcp` puts the tables into the docs.
//!
//! One worker. All ways take turns in each round; a ratio is the median over the rounds of that to the plain way in the
//! same round. Processor time is that of Envoy alone.

#![allow(clippy::disallowed_methods, reason = "benchmarks measure")]
#![allow(clippy::print_stdout)]

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::{EnvoyConfig, endpoints_at};
use unitring_tests::envoy::Envoy;
use unitring_tests::page_part;
use unitring_tests::process;
use unitring_tests::statistics::median;
use unitring_tests::tcp::{Connection, TcpInstance, all_is_still, client, plain};
use unitring_tests::usage;

const INSTANCES: [&str; 4] = ["a", "b", "c", "d"];
/// Rounds that count; one before warms up.
const ROUNDS: usize = 7;
/// Connections of a round, and how many of them are made at a time.
const CONNECTIONS: u16 = 2_000;
const AT_A_TIME: u16 = 20;
/// Connections that are held for the memory of one.
const HELD: u16 = 2_000;
/// The same where clients do not read.
const STALLED: u16 = 80;
/// The amount that is sent through one connection, and through several at once.
const MIB: u32 = 256;
const STREAMS: u16 = 8;

struct Way {
    name: &'static str,
    config: EnvoyConfig,
    /// The arguments of the instances.
    instances: &'static [&'static str],
}

/// The figures of a round, or ratios of them.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// Processor time of a connection, in µs.
    of_connection: f64,
    /// Connections a second.
    rate: f64,
    /// The transfer through one connection, and through several.
    by_one: Transfer,
    by_several: Transfer,
}

/// The figures of what is sent.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    /// Processor time of a MiB, in µs.
    of_mib: f64,
    /// MiB a second.
    rate: f64,
}

struct Running {
    envoy: Envoy,
    _instances: Vec<TcpInstance>,
}

#[tokio::main]
async fn main() -> Result<()> {
    process::be_quiet();
    // Each connection takes two in Envoy, and one here.
    process::open_files(u64::from(HELD) * 2 + 200)?;
    let companion = Settings::default().start().await?;
    let ways = ways(&companion)?;
    let mut memory = Vec::new();
    for way in &ways {
        let running = Running::start(way).await?;
        let held = running.kib_of_connection("echo", HELD).await?;
        let running = Running::start(way).await?;
        memory.push([held, running.kib_of_connection("flood", STALLED).await?]);
        eprintln!("{}: {memory:.1?} KiB a connection", way.name);
    }
    let mut running = Vec::new();
    for way in &ways {
        running.push(Running::start(way).await?);
    }
    let mut rounds = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        for (one, figures) in running.iter().zip(&mut rounds) {
            let measured = one.measure().await?;
            eprintln!("{measured:.1?}");
            if round > 0 {
                figures.push(measured);
            }
        }
    }
    print(&ways, &memory, &rounds)
}

fn ways(companion: &Companion) -> Result<Vec<Way>> {
    let shipped = EnvoyConfig::shipped("tcp.yaml")?
        .companion(companion)?
        .setting("load.min_capacity", json!(u16::MAX))?;
    let plain = plain(shipped.clone())?;
    let told = page_part::with(shipped.clone(), "tcp.md", "proxy-out")?;
    let other = page_part::with(shipped.clone(), "tcp.md", "server-ends-first")?;
    Ok(vec![
        Way {
            name: "`tcp_proxy`, `source_ip` on RING_HASH",
            config: plain,
            instances: &[],
        },
        Way {
            name: "**unitring**, `tcp.yaml`",
            config: shipped,
            instances: &[],
        },
        Way {
            name: "**unitring**, the tunnel for servers that end first",
            config: other,
            instances: &[],
        },
        Way {
            name: "**unitring**, with the PROXY protocol to instances",
            config: told,
            instances: &["proxy"],
        },
    ])
}

impl Running {
    async fn start(way: &Way) -> Result<Self> {
        let mut instances = Vec::new();
        for id in INSTANCES {
            instances.push(TcpInstance::start(id, way.instances).await?);
        }
        let ports: Vec<u16> = instances.iter().map(|instance| instance.port).collect();
        let config = way
            .config
            .clone()
            .endpoints("orders", endpoints_at(&ports))?;
        let envoy = Envoy::start(&config).await?;
        envoy.has_healthy(INSTANCES.len()).await?;
        let this = Self {
            envoy,
            _instances: instances,
        };
        // The filter's ring is there once its VM has seen a connection.
        for number in 0..100 {
            this.once(number).await?;
        }
        Ok(this)
    }

    async fn open(&self, number: u16, purpose: &str) -> Result<Connection> {
        Connection::open(self.envoy.port, client(number), purpose).await
    }

    /// A whole connection: greeted, an echo, closed from both ends.
    async fn once(&self, number: u16) -> Result<()> {
        let mut connection = self.open(number, "echo").await?;
        connection.echo(b"0123456789").await?;
        connection.stream.shutdown().await?;
        ensure!(connection.rest().await?.is_empty(), "more than the echo");
        Ok(())
    }

    async fn measure(&self) -> Result<Figures> {
        let (spent, began) = (self.spent()?, Instant::now());
        for first in (0..CONNECTIONS).step_by(usize::from(AT_A_TIME)) {
            try_join_all((first..first + AT_A_TIME).map(|number| self.once(number))).await?;
        }
        let count = f64::from(CONNECTIONS);
        let of_connection = (self.spent()? - spent) * 1e6 / count;
        let rate = count / began.elapsed().as_secs_f64();
        Ok(Figures {
            of_connection,
            rate,
            by_one: self.transfer(1).await?,
            by_several: self.transfer(STREAMS).await?,
        })
    }

    /// Transfers through this many connections at once.
    async fn transfer(&self, streams: u16) -> Result<Transfer> {
        let (spent, began) = (self.spent()?, Instant::now());
        try_join_all((0..streams).map(|number| self.download(number, streams))).await?;
        Ok(Transfer {
            of_mib: (self.spent()? - spent) * 1e6 / f64::from(MIB),
            rate: f64::from(MIB) / began.elapsed().as_secs_f64(),
        })
    }

    async fn download(&self, number: u16, streams: u16) -> Result<()> {
        let bytes = u64::from(MIB) * 1024 * 1024 / u64::from(streams);
        let mut connection = self.open(number, &format!("say {bytes}")).await?;
        let mut nowhere = tokio::io::sink();
        let came = tokio::io::copy_buf(&mut connection.stream, &mut nowhere).await?;
        ensure!(came == bytes, "{came} of {bytes} bytes");
        Ok(())
    }

    /// Processor seconds of Envoy.
    fn spent(&self) -> Result<f64> {
        Ok(usage::processor_time(self.envoy.id())?.as_secs_f64())
    }

    /// Memory of each of `count` connections that are idle, or that the instance floods while the client does not read.
    async fn kib_of_connection(&self, purpose: &str, count: u16) -> Result<f64> {
        let before = self.envoy.resident_bytes()?;
        let mut held = Vec::new();
        for first in (0..count).step_by(usize::from(AT_A_TIME)) {
            let some = (first..first + AT_A_TIME).map(|number| self.open(number, purpose));
            held.extend(try_join_all(some).await?);
        }
        let mut writers = JoinSet::new();
        let mut reading = Vec::new();
        for connection in held {
            let (read, mut write) = tokio::io::split(connection.stream);
            reading.push(read);
            if purpose == "flood" {
                writers.spawn(async move { while write.write_all(&[0; 65_536]).await.is_ok() {} });
            }
        }
        all_is_still(&self.envoy).await?;
        let grown = self.envoy.resident_bytes()?.saturating_sub(before);
        Ok(f64::from(u32::try_from(grown / 1024)?) / f64::from(count))
    }
}

/// The median over the rounds.
fn typical(rounds: &[Figures], figure: impl Fn(&Figures) -> f64) -> Result<f64> {
    median(rounds.iter().map(figure))
}

fn print(ways: &[Way], memory: &[[f64; 2]], rounds: &[Vec<Figures>]) -> Result<()> {
    let (plain, plain_memory) = (
        rounds.first().context("none")?,
        memory.first().context("none")?,
    );
    let ratio = |own: &[Figures], figure: &dyn Fn(&Figures) -> f64| {
        median(
            own.iter()
                .zip(plain)
                .map(|(own, plain)| figure(own) / figure(plain)),
        )
    };
    println!(
        "| a connection | memory | memory if the client does not read | processor time | connections/s |"
    );
    println!("|---|---:|---:|---:|---:|");
    for ((way, own), kib) in ways.iter().zip(rounds).zip(memory) {
        println!(
            "| {} | {:.0} KiB ({:.2}) | {:.0} KiB ({:.2}) | {:.0} µs ({:.2}) | {:.0} ({:.2}) |",
            way.name,
            kib[0],
            kib[0] / plain_memory[0],
            kib[1],
            kib[1] / plain_memory[1],
            typical(own, |one| one.of_connection)?,
            ratio(own, &|one| one.of_connection)?,
            typical(own, |one| one.rate)?,
            ratio(own, &|one| one.rate)?,
        );
    }
    println!(
        "\n| a MiB to the client | through one connection | bytes/s | through {STREAMS} at once | bytes/s |"
    );
    println!("|---|---:|---:|---:|---:|");
    for (way, own) in ways.iter().zip(rounds) {
        print!("| {} |", way.name);
        let both: [fn(&Figures) -> Transfer; 2] = [|one| one.by_one, |one| one.by_several];
        for transfer in both {
            print!(
                " {:.0} µs ({:.2}) | {:.0} MiB ({:.2}) |",
                typical(own, |one| transfer(one).of_mib)?,
                ratio(own, &|one| transfer(one).of_mib)?,
                typical(own, |one| transfer(one).rate)?,
                ratio(own, &|one| transfer(one).rate)?,
            );
        }
        println!();
    }
    Ok(())
}
