//! Several companions on one unit: all of them take writes, only the leader does the leader's work, and
//! another companion leads when the leader is gone.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::writers::Writers;

async fn role(companion: &Companion) -> Result<(String, Option<u64>)> {
    let units = companion.get("/v1/units").await?;
    let role = units["role"].as_str().context("no role")?.to_owned();
    Ok((role, units["term"].as_u64()))
}

/// The index of the leader, once all others are followers, and its term.
async fn leader(companions: &[&Companion]) -> Result<(usize, u64)> {
    until("one to lead and the others to follow", async || {
        let mut found = None;
        for (place, companion) in companions.iter().enumerate() {
            match role(companion).await? {
                (role, Some(term)) if role == "leader" => {
                    ensure!(found.is_none(), "two lead");
                    found = Some((place, term));
                }
                (role, _) => ensure!(role == "follower", "{place}: {role}"),
            }
        }
        found.context("nobody leads")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_companion_leads_when_one_is_killed_and_no_write_is_lost() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (redis, far) = (Redis::start().await?, Redis::start().await?);
    let settings = Settings::unit("east", &["west"], &redis, &rabbit);
    let mut near = [settings.start().await?, settings.start().await?];
    let west = Settings::unit("west", &["east"], &far, &rabbit)
        .start()
        .await?;
    let (first, term) = leader(&[&near[0], &near[1]]).await?;
    let mut writers = Writers::start(4, &[near[0].port, near[1].port]);
    writers.go_on(100).await?;

    // The leader sends on a write that a follower took.
    near[1 - first].put_record("through", "the other").await?;
    west.has_record("through", "the other").await?;

    near[first].kill()?;
    let killed = Instant::now();
    let second = 1 - first;
    let (_, later) = leader(&[&near[second]]).await?;
    println!(
        "another leads {} ms after a kill",
        killed.elapsed().as_millis()
    );
    ensure!(later > term, "term {later} after {term}");
    writers.go_on(50).await?;

    // A leader that stops in order gives the lease back: its successor need not wait for the end of the
    // term.
    near[first].restart().await?;
    let (place, later) = leader(&[&near[0], &near[1]]).await?;
    assert_eq!(
        (place, later > term),
        (second, true),
        "nobody is pushed out"
    );
    near[second].stop().await?;
    let stopped = Instant::now();
    let (_, last) = leader(&[&near[first]]).await?;
    println!(
        "another leads {} ms after a stop",
        stopped.elapsed().as_millis()
    );
    ensure!(last > later, "term {last} after {later}");
    writers.go_on(50).await?;
    writers.stop().await?;
    until("every acknowledged write to be in both units", async || {
        for server in [&redis, &far] {
            let keys = server.cli(&["--scan", "--pattern", "unitring:{*:*}:r:steady/*"])?;
            for key in writers.acknowledged().keys() {
                ensure!(keys.contains(&format!("/{key}")), "{key} is missing");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn one_companion_watches_the_group_and_tells_the_log() -> Result<()> {
    let durable = ["appendonly yes"];
    let mut servers = [
        Redis::start_with(&durable).await?,
        Redis::start_with(&durable).await?,
    ];
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let port = servers[0].port.to_string();
    servers[1].cli(&["REPLICAOF", "127.0.0.1", &port])?;
    servers[1].follows().await?;
    let settings = Settings::on_redis(&servers[0])
        .variable("UNITRING_GROUP_SERVERS", &urls)
        .variable("UNITRING_GROUP_PERSISTENCE", "both");
    let (one, other) = (settings.start().await?, settings.start().await?);
    let both = [&one, &other];
    let (leads, _) = leader(&both).await?;
    let healthy = async |companion: &Companion, wanted: bool| -> Result<()> {
        until("the group to be seen", async || {
            let seen = companion.get("/v1/group").await?;
            ensure!(seen["healthy"] == wanted, "{seen}");
            Ok(())
        })
        .await
    };
    healthy(&one, true).await?;
    healthy(&other, true).await?;
    servers[1].kill()?;
    healthy(&one, false).await?;
    healthy(&other, false).await?;
    servers[1].restart_as_replica_of(servers[0].port).await?;
    healthy(&one, true).await?;
    until("the log to tell it, once", async || {
        let events = other.get("/v1/events?format=json&limit=1000").await?;
        let kinds: Vec<&str> = events
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|event| event["kind"].as_str())
            .filter(|kind| kind.starts_with("group_"))
            .collect();
        ensure!(kinds == ["group_degraded", "group_restored"], "{events}");
        Ok(())
    })
    .await?;
    for (place, companion) in both.iter().enumerate() {
        let metrics = companion.metrics().await?;
        let count = u8::from(place == leads);
        for line in [
            format!("unitring_companion_leader {count}"),
            format!("unitring_companion_group_degradations_total {count}"),
        ] {
            assert!(
                metrics.lines().any(|found| found == line),
                "{line}: {metrics}"
            );
        }
    }
    Ok(())
}
