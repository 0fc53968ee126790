//! The primary of a unit's Redis dies, again and again: no acknowledged write is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::Method;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::proxy::{Link, Proxy};
use unitring_tests::redis::Redis;
use unitring_tests::redis::cluster::Cluster;
use unitring_tests::redis::sentinel::Sentinels;
use unitring_tests::writers::Writers;

const ROUNDS: usize = 20;
const CLIENTS: usize = 4;

/// The silence after which a primary is replaced: longer than a busy machine lets one wait.
const SILENCE: Duration = Duration::from_secs(3);

/// The keys of `steady` that have their values, by Redis itself.
fn kept(server: &Redis) -> Result<BTreeSet<String>> {
    let found = server.cli(&["--scan", "--pattern", "unitring:{*:*}:r:steady/*"])?;
    let names = found.lines().filter_map(|key| key.rsplit_once('/'));
    Ok(names.map(|(_, name)| name.to_owned()).collect())
}

/// A companion that acknowledges a write once one replica has it.
fn waiting(url: &str) -> Settings {
    let settings = Settings::at_redis(url).variable("UNITRING_UNIT", "east");
    settings.variable("UNITRING_STORE_WAIT_REPLICAS", "1")
}

fn missing(writers: &Writers, kept: &BTreeSet<String>) -> Vec<String> {
    let acknowledged = writers.acknowledged();
    let missing = acknowledged.keys().filter(|key| !kept.contains(*key));
    missing.cloned().collect()
}

async fn values_are_right(companion: &Companion, writers: &Writers) -> Result<()> {
    for key in writers.acknowledged().keys() {
        let path = format!("/v1/data/steady/{key}");
        until("an answer of the store", async || {
            let answer = companion.call(Method::GET, &path, vec![]).await?;
            let (status, value) = (answer.status(), answer.text().await?);
            ensure!(value == *key, "{key}: {status}: {value}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn told(what: &str, mut gaps: Vec<Duration>, writers: &Writers) {
    gaps.sort_unstable();
    let median = gaps.get(gaps.len() / 2).map_or(0, Duration::as_millis);
    let worst = gaps.last().map_or(0, Duration::as_millis);
    println!(
        "{what}: {} rounds, {} writes acknowledged, {} refused; without an acknowledgement: median {median} ms, \
         worst {worst} ms",
        gaps.len(),
        writers.acknowledged().len(),
        writers.refused(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_while_primaries_are_killed_one_after_the_other() -> Result<()>
{
    let mut group = Sentinels::start(2, &["appendonly yes"], SILENCE).await?;
    let companion = waiting(&group.url()).start().await?;
    let mut writers = Writers::start(CLIENTS, &[companion.port]);
    let mut gaps = Vec::new();
    for round in 0..ROUNDS {
        let old = group.settled().await?;
        writers.go_on(50).await?;
        if round == ROUNDS / 2 {
            // The Sentinel that is asked first; two of three still agree.
            group.kill_sentinel(0)?;
        }
        if round % 5 == 4 {
            let (replica, port) = ((old + 1) % 3, group.servers[old].port);
            group.servers[replica].kill()?;
            writers.go_on(50).await?;
            group.servers[replica].restart_as_replica_of(port).await?;
            group.settled().await?;
        }
        let killed = Instant::now();
        group.servers[old].kill()?;
        until("another primary", async || {
            ensure!(group.primary()? != old, "still the old one");
            Ok(())
        })
        .await?;
        writers.go_on(50).await?;
        gaps.push(writers.longest_gap_since(killed));
        let new = until("the Sentinels to agree", async || group.primary()).await?;
        // The most recent writes may not be in the answer yet: the test checks them again at the end.
        let lost = missing(&writers, &kept(&group.servers[new])?);
        let lost: Vec<&String> = lost
            .iter()
            .filter(|key| {
                let acknowledged = writers.acknowledged();
                acknowledged.get(*key).is_some_and(|when| *when < killed)
            })
            .collect();
        ensure!(lost.is_empty(), "round {round}: {lost:?} are gone");
        // As its supervisor starts it. As a primary it would stay for some seconds, until the Sentinels
        // tell it which server to replicate.
        let port = group.servers[new].port;
        group.servers[old].restart_as_replica_of(port).await?;
    }
    writers.stop().await?;
    let primary = group.settled().await?;
    let lost = missing(&writers, &kept(&group.servers[primary])?);
    ensure!(lost.is_empty(), "{lost:?} are gone");
    values_are_right(&companion, &writers).await?;
    told("Sentinel, WAIT 1 of 2", gaps, &writers);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_a_redis_cluster_is_replaced_and_the_rest_serves_meanwhile() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let companion = waiting(&cluster.url()).start().await?;
    let mut writers = Writers::start(CLIENTS, &[companion.port]);
    let mut gaps = Vec::new();
    for victim in 0..2 {
        writers.go_on(100).await?;
        let killed = Instant::now();
        let dead = format!(":{}@", cluster.servers[victim].port);
        cluster.servers[victim].kill()?;
        let alive = &cluster.servers[2];
        // One that came back before it was missed would be the primary again, with what its disk has: of the last seconds
        // that may be nothing, and its replica would give up what it confirmed (docs/store.md).
        until("another primary", async || {
            let nodes = alive.cli(&["CLUSTER", "NODES"])?;
            let of = |node: &&str, wanted: &str| {
                let flags = node.split_whitespace().nth(2).unwrap_or_default();
                flags.split(',').any(|flag| flag == wanted)
            };
            let is_missed = |node: &&str| node.contains(&dead) && of(node, "fail");
            ensure!(nodes.lines().any(|node| is_missed(&node)), "{nodes}");
            let others = nodes.lines().filter(|node| !node.contains(&dead));
            let primaries = others.filter(|node| of(node, "master"));
            ensure!(primaries.count() == 3, "{nodes}");
            Ok(())
        })
        .await?;
        // It comes back as a replica: until then no replica could have its successor's writes.
        cluster.servers[victim].restart().await?;
        writers.go_on(500).await?;
        gaps.push(writers.longest_gap_since(killed));
        let alive = &cluster.servers[2];
        until("every primary has a replica again", async || {
            let nodes = alive.cli(&["CLUSTER", "NODES"])?;
            let replicas = nodes.lines().filter(|node| node.contains("slave"));
            let well = replicas.filter(|node| node.contains(" connected"));
            ensure!(well.count() == 3, "{nodes}");
            Ok(())
        })
        .await?;
        writers.go_on(500).await?;
    }
    writers.stop().await?;
    let mut all = BTreeSet::new();
    for server in &cluster.servers {
        all.extend(kept(server)?);
    }
    let lost = missing(&writers, &all);
    ensure!(lost.is_empty(), "{lost:?} are gone");
    values_are_right(&companion, &writers).await?;
    told("Redis Cluster, WAIT 1 of 1", gaps, &writers);
    Ok(())
}

/// Kills the primary after this many writes, while its only replica is some milliseconds behind. Returns the number of
/// acknowledged writes, and for each write that the replica lacks how long before the kill it was
/// acknowledged.
async fn lost_at(lag: Duration, waits: bool, writes: usize) -> Result<(usize, Vec<Duration>)> {
    let mut primary = Redis::start().await?;
    let link = Proxy::to(primary.port).await?;
    let replica = Redis::start_with(&[&format!("replicaof 127.0.0.1 {}", link.port)]).await?;
    replica.follows().await?;
    link.set(Link::Up(lag));
    let companion = Settings::on_redis(&primary)
        .variable(
            "UNITRING_STORE_WAIT_REPLICAS",
            if waits { "1" } else { "0" },
        )
        .start()
        .await?;
    let mut writers = Writers::start(CLIENTS, &[companion.port]);
    writers.go_on(writes).await?;
    primary.kill()?;
    link.set(Link::Cut);
    let end = Instant::now();
    writers.stop().await?;
    let lost = missing(&writers, &kept(&replica)?);
    let acknowledged = writers.acknowledged();
    let ages = lost.iter().filter_map(|key| acknowledged.get(key));
    let ages = ages.map(|when| end.saturating_duration_since(*when));
    Ok((acknowledged.len(), ages.collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_wait_what_was_under_way_to_the_replicas_is_lost_and_with_it_nothing() -> Result<()>
{
    // So long that something is under way even if this process stands still for a moment before the kill.
    let lag = Duration::from_secs(1);
    let (acknowledged, lost) = lost_at(lag, false, 1_500).await?;
    let oldest = lost.iter().max().copied().unwrap_or_default();
    println!(
        "a replica {} ms behind: {} of {acknowledged} acknowledged writes lost, the oldest {} ms old",
        lag.as_millis(),
        lost.len(),
        oldest.as_millis()
    );
    ensure!(!lost.is_empty(), "the link was not slow");
    // No lost write is older than the delay of the link allows.
    ensure!(oldest < lag + Duration::from_secs(2), "{oldest:?}");
    let lag = Duration::from_millis(200);
    let (acknowledged, lost) = lost_at(lag, true, 100).await?;
    ensure!(lost.is_empty(), "{} of {acknowledged} are gone", lost.len());
    Ok(())
}
