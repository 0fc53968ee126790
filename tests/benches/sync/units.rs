//! Two units, what is written to the first, and what the Redis of the second shows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use unitring::testing::bucket_of;
use unitring::testing::contract::id;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::within;
use unitring_tests::raw::Raw;
use unitring_tests::redis::Redis;
use unitring_tests::unit_group::{Brokers, UnitGroup};

use super::flood;

const PATIENCE: Duration = Duration::from_secs(300);
/// Records that are there before a measurement: some in every bucket, so that each key more is a record.
const WARM: u64 = 5_000;

/// Keys that are no records and not always there, such as that of the readiness check.
pub(crate) const COMING_AND_GOING: u64 = 10;

/// Two units, warm, and saving as `unitring group create` sets it up.
pub(crate) async fn start(change: impl Fn(Settings) -> Settings) -> Result<UnitGroup> {
    let group = UnitGroup::start(2, Brokers::One, |settings| {
        change(settings.variable("UNITRING_SYNC_DIGEST_INTERVAL", "10s"))
    })
    .await?;
    for member in &group.members {
        let saves = member
            .redis
            .cli(&["CONFIG", "SET", "appendfsync", "everysec"])?;
        ensure!(saves == "OK", "{saves}");
    }
    let mut watch = Watch::of(&group.member("north")?.redis)?;
    flood::write(group.member("east")?.companion.port, "warm", WARM).await?;
    within(PATIENCE, "the units to be warm", async || {
        let keys = watch.keys()?;
        ensure!(keys >= WARM, "{keys} keys");
        Ok(())
    })
    .await?;
    settled(&group).await?;
    Ok(group)
}

/// Waits until nothing is on its way.
pub(crate) async fn settled(group: &UnitGroup) -> Result<()> {
    let east = group.member("east")?;
    within(PATIENCE, "the outbox to be empty", async || {
        let waiting = east
            .companion
            .metric("unitring_companion_outbox_ops")
            .await?;
        ensure!(waiting < 0.5, "{waiting} changes wait");
        Ok(())
    })
    .await
}

/// Sends requests and wants each of them to be done.
pub(crate) async fn send(connection: &mut Raw, requests: &[Vec<u8>]) -> Result<()> {
    for answer in connection.ask(requests).await? {
        ensure!((200..300).contains(&answer.status), "{}", answer.status);
    }
    Ok(())
}

/// A connection to a Redis that is asked again and again.
pub(crate) struct Watch {
    connection: BufReader<TcpStream>,
}

impl Watch {
    pub(crate) fn of(redis: &Redis) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            connection: BufReader::new(stream),
        })
    }

    /// How many keys there are.
    pub(crate) fn keys(&mut self) -> Result<u64> {
        let answer = self.ask("DBSIZE")?;
        let keys = answer.strip_prefix(':').with_context(|| answer.clone())?;
        Ok(keys.parse()?)
    }

    /// Whether the record is in the unit `north`.
    pub(crate) fn has(&mut self, key: &str) -> Result<bool> {
        let id = id("bench", key);
        let answer = self.ask(&format!(
            "EXISTS unitring:{{north:{}}}:r:{id}",
            bucket_of(&id)
        ))?;
        Ok(answer == ":1")
    }

    /// How long it takes from a tenth of these many keys more than now to all of them, as keys in a second.
    /// Nothing may be on its way when this is called.
    pub(crate) fn rate(mut self, before: u64, count: u64) -> Result<f64> {
        let (first, end) = (before + count / 10, Instant::now() + PATIENCE);
        let mut began = None;
        loop {
            let keys = self.keys()?;
            if began.is_none() && keys >= first {
                began = Some((Instant::now(), keys));
            }
            if keys + COMING_AND_GOING >= before + count {
                let (at, had) = began.context("all at once")?;
                let came = u32::try_from(keys - had)?;
                return Ok(f64::from(came) / at.elapsed().as_secs_f64());
            }
            if Instant::now() > end {
                bail!("{keys} keys of {}", before + count);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        let stream = self.connection.get_mut();
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        self.connection.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
