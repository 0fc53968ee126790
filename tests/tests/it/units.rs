//! Three units that are written to all the time, while brokers, stores, companions and the links between
//! them fail: afterwards they hold the same, no acknowledged write is lost, and deleted records stay
//! deleted.
//!
//! The test reads their content by `redis-cli`, not through the companions.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::Mutex;
use unitring_tests::deadline::until;
use unitring_tests::proxy::Link;
use unitring_tests::rivals::Rivals;
use unitring_tests::unit_group::{Brokers, UnitGroup, tombstones};
use unitring_tests::writers::Writers;

/// Each test needs most of a small machine: three stores, three companions and up to three brokers.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Breaks one part after the other while clients write to every unit.
async fn survives(brokers: Brokers) -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let settings = |settings: unitring_tests::companion::Settings| {
        settings.variable("UNITRING_SYNC_TOMBSTONES_KEPT", "4s")
    };
    let mut group = UnitGroup::start(3, brokers, settings).await?;
    let ports = group.ports();
    let mut writers = Writers::start(3, &ports);
    let mut rivals = Rivals::start(&ports);
    writers.go_on(60).await?;
    // A broker that is killed before its queues are on disk loses them for good.
    let queues = [
        "unitring.sync.east",
        "unitring.sync.north",
        "unitring.sync.west",
    ];
    match brokers {
        Brokers::One => group.rabbits[0].keeps(&queues).await?,
        Brokers::PerUnit => {
            for (rabbit, queue) in group.rabbits.iter().zip(queues) {
                rabbit.keeps(&[queue]).await?;
            }
        }
        // The other nodes have the queues.
        Brokers::Cluster => {}
    }

    println!("a broker is killed");
    let broken = group.rabbits.len() - 1;
    group.rabbits[broken].kill()?;
    writers.go_on(60).await?;
    group.rabbits[broken].restart().await?;
    println!("a primary is killed");
    group.members[1].redis.kill()?;
    writers.go_on(40).await?;
    group.members[1].redis.restart().await?;
    println!("a companion is killed");
    group.members[2].companion.kill()?;
    writers.go_on(40).await?;
    group.members[2].companion.restart().await?;
    println!("a unit is cut off");
    group.members[0]
        .links
        .iter()
        .for_each(|link| link.set(Link::Cut));
    writers.go_on(60).await?;
    let up = |delay: Duration| Link::Up(delay);
    group.members[0]
        .links
        .iter()
        .for_each(|link| link.set(up(Duration::ZERO)));
    println!("a unit is far away, another silent");
    let slow = up(Duration::from_millis(150));
    group.members[1]
        .links
        .iter()
        .for_each(|link| link.set(slow));
    group.members[2]
        .links
        .iter()
        .for_each(|link| link.set(Link::Silent));
    writers.go_on(60).await?;
    let all = group.members.iter().flat_map(|member| &member.links);
    all.for_each(|link| link.set(up(Duration::ZERO)));
    writers.go_on(60).await?;

    rivals.stop().await?;
    writers.stop().await?;
    let healed = Instant::now();
    for member in &group.members {
        member.companion.is_ready().await?;
    }
    let held = group.agree().await?;
    println!(
        "{brokers:?}: {} records the same {} ms after the last write; {} changes of shared ones, {} unique acknowledged, {} refused",
        held.len(),
        healed.elapsed().as_millis(),
        rivals.changes(),
        writers.acknowledged().len(),
        writers.refused(),
    );
    for key in writers.acknowledged().keys() {
        ensure!(held.contains_key(&format!("steady/{key}")), "{key} is lost");
    }
    let shared = held.keys().filter(|key| key.starts_with("shared/")).count();
    ensure!((1..40).contains(&shared), "{shared} of 40 shared records");

    // The outboxes are empty, all units hold the same, and tombstones are forgotten once every unit knows
    // of them.
    until("outboxes to be empty and tombstones to go", async || {
        for member in &group.members {
            let units = member.companion.get("/v1/units").await?;
            ensure!(
                units["sync"]["outbox"] == 0,
                "{}: {}",
                member.name,
                units["sync"]
            );
            for (peer, link) in units["sync"]["links"].as_object().into_iter().flatten() {
                let differ = link["compared"]["diverged"].as_array().map_or(0, Vec::len);
                ensure!(link["state"] == "ok", "{} to {peer}: {link}", member.name);
                ensure!(differ == 0, "{} to {peer}: {link}", member.name);
            }
            let left = tombstones(&member.redis)?;
            ensure!(left == 0, "{} keeps {left} tombstones", member.name);
        }
        Ok(())
    })
    .await?;
    ensure!(group.agree().await? == held, "something came back");
    Ok(())
}

/// Invariants 6 and 7.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_and_none_deleted_returns_with_one_broker() -> Result<()> {
    survives(Brokers::One).await
}

/// Invariants 6 and 7.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_with_a_cluster_of_brokers() -> Result<()> {
    survives(Brokers::Cluster).await
}

/// Invariants 6 and 7.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_with_a_broker_per_unit() -> Result<()> {
    survives(Brokers::PerUnit).await
}
