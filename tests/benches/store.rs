//! Writes per second of the Redis store, against the same commands on a bare connection in the same
//! run. Prints a table; `make bench AREA=store` puts it into the docs.

#![allow(clippy::disallowed_methods, reason = "benchmarks measure")]
#![allow(clippy::indexing_slicing, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use unitring::testing::contract::id;
use unitring::testing::{Records as _, RedisSettings, RedisStore, Url, Wait};
use unitring_tests::deadline::until;
use unitring_tests::redis::Redis;
use unitring_tests::statistics::median;

/// Writes of one measurement.
const WRITES: usize = 20_000;
/// Pairs of measurements; the medians are shown.
const PAIRS: usize = 7;
const VALUE_BYTES: usize = 100;
/// Lines of an answer to a write: `*2`, the length of the version, the version, whether it was created.
const ANSWER_LINES: usize = 4;
/// As `unitring group create` sets it up.
const PERSISTENCE: [&str; 3] = ["save \"\"", "appendonly yes", "appendfsync everysec"];

/// One case of the table.
struct Case {
    title: &'static str,
    has_peers: bool,
    waits: bool,
    /// Writers of the store, each of which waits for its answer.
    writers: usize,
}

const CASES: [Case; 4] = [
    Case {
        title: "a unit alone",
        has_peers: false,
        waits: false,
        writers: 64,
    },
    Case {
        title: "a unit with peers, so with an outbox",
        has_peers: true,
        waits: false,
        writers: 64,
    },
    Case {
        title: "the same, 256 writers",
        has_peers: true,
        waits: false,
        writers: 256,
    },
    Case {
        title: "the same, acknowledged once a replica has it (the bare connection does not wait)",
        has_peers: true,
        waits: true,
        writers: 256,
    },
];

/// One measurement.
#[derive(Clone, Copy)]
struct Run {
    writes_per_second: f64,
    /// Microseconds of CPU that Redis took for a write.
    server_us: f64,
    /// Microseconds of CPU that this process took for a write.
    client_us: f64,
}

fn main() -> Result<()> {
    unitring_tests::process::be_quiet();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!(
        "| {VALUE_BYTES} bytes, {WRITES} writes a run | store, writes/s | bare, writes/s | ratio | Redis, µs of CPU \
         a write: store / bare | this process, µs of CPU a write: store / bare |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for case in &CASES {
        runtime.block_on(measure(case))?;
    }
    Ok(())
}

async fn measure(case: &Case) -> Result<()> {
    let server = Redis::start_with(&PERSISTENCE).await?;
    let of = format!("replicaof 127.0.0.1 {}", server.port);
    let replica = match case.waits {
        true => Some(Redis::start_with(&[&of]).await?),
        false => None,
    };
    let wait = Wait {
        replicas: 1,
        timeout: Duration::from_secs(2),
    };
    let settings = RedisSettings {
        wait: case.waits.then_some(wait),
        ..RedisSettings::at(Url::new(server.url()))
    };
    let store = RedisStore::open(&settings, "east".parse()?, case.has_peers)?;
    let store = Arc::new(store);
    if replica.is_some() {
        until("the replica to follow", async || {
            Ok(store.write(&id("d", "first"), Some(b"x"), 1).await?)
        })
        .await?;
    }
    store.write(&id("d", "first"), Some(b"x"), 1).await?;
    let mut pairs = Vec::new();
    for round in 0..PAIRS {
        // The first run may find a colder machine.
        let (ours, bare) = if round % 2 == 0 {
            let ours = by_store(&server, &store, case, round).await?;
            (ours, by_hand(&server, &store, round)?)
        } else {
            let bare = by_hand(&server, &store, round)?;
            (by_store(&server, &store, case, round).await?, bare)
        };
        pairs.push((ours, bare));
    }
    let of = |figure: fn(&(Run, Run)) -> f64| median(pairs.iter().map(figure));
    println!(
        "| {} | {:.0} | {:.0} | {:.2} | {:.1} / {:.1} | {:.1} / {:.1} |",
        case.title,
        of(|(ours, _)| ours.writes_per_second)?,
        of(|(_, bare)| bare.writes_per_second)?,
        of(|(ours, bare)| ours.writes_per_second / bare.writes_per_second)?,
        of(|(ours, _)| ours.server_us)?,
        of(|(_, bare)| bare.server_us)?,
        of(|(ours, _)| ours.client_us)?,
        of(|(_, bare)| bare.client_us)?,
    );
    Ok(())
}

/// Writes through the store, like the companion: each writer waits for its answer.
async fn by_store(
    server: &Redis,
    store: &Arc<RedisStore>,
    case: &Case,
    round: usize,
) -> Result<Run> {
    let meter = Meter::start(server)?;
    let writers = (0..case.writers).map(|writer| {
        let (store, value) = (Arc::clone(store), vec![b'v'; VALUE_BYTES]);
        let mine = (writer..WRITES).step_by(case.writers);
        tokio::spawn(async move {
            for number in mine {
                let id = id("store", &format!("{round}/{number}"));
                store.write(&id, Some(&value), now_ms()).await?;
            }
            anyhow::Ok(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    meter.stop(server)
}

/// The same commands, made before the clock starts, on one bare connection that is always full.
fn by_hand(server: &Redis, store: &RedisStore, round: usize) -> Result<Run> {
    let value = vec![b'v'; VALUE_BYTES];
    let commands: Vec<Vec<u8>> = (0..WRITES)
        .map(|number| {
            let id = id("bare", &format!("{round}/{number}"));
            store.packed_write(&id, &value, now_ms())
        })
        .collect();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::with_capacity(1 << 16, stream.try_clone()?);
    let mut line = Vec::new();
    let meter = Meter::start(server)?;
    std::thread::scope(|scope| {
        let send = scope.spawn(|| stream.write_all(&commands.concat()));
        for _ in 0..commands.len() * ANSWER_LINES {
            line.clear();
            answers.read_until(b'\n', &mut line)?;
            let text = String::from_utf8_lossy(&line);
            ensure!(!line.starts_with(b"-"), "{text}");
        }
        Ok(send.join().map_err(|_| anyhow!("the sender broke"))??)
    })?;
    meter.stop(server)
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Time, and the CPU time of both processes.
struct Meter {
    start: Instant,
    server: f64,
    client: f64,
}

impl Meter {
    fn start(server: &Redis) -> Result<Self> {
        Ok(Self {
            server: server_cpu(server)?,
            client: own_cpu()?,
            start: Instant::now(),
        })
    }

    fn stop(self, server: &Redis) -> Result<Run> {
        let (seconds, client) = (self.start.elapsed().as_secs_f64(), own_cpu()? - self.client);
        let each = 1e6 / WRITES as f64;
        Ok(Run {
            writes_per_second: WRITES as f64 / seconds,
            server_us: (server_cpu(server)? - self.server) * each,
            client_us: client * each,
        })
    }
}

/// Seconds of CPU that Redis has used.
fn server_cpu(server: &Redis) -> Result<f64> {
    let info = server.cli(&["INFO", "cpu"])?;
    let mut seconds = 0.0;
    for name in ["used_cpu_user:", "used_cpu_sys:"] {
        let used = info.lines().find_map(|line| line.strip_prefix(name));
        seconds += used.context("no CPU time")?.trim().parse::<f64>()?;
    }
    Ok(seconds)
}

/// Seconds of CPU that this process has used.
fn own_cpu() -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let run = text.split_whitespace().next().context("schedstat")?;
        nanoseconds += run.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}
