//! A unit whose Redis is full, and a unit whose companions are configured differently: what must go on
//! goes on, everything else is refused, and both say so.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::ports;
use unitring_tests::programs;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;

/// A value of 1 KiB, to use up memory.
fn value() -> String {
    "v".repeat(1_024)
}

async fn unit(name: &str, peer: &str, rabbit: &Rabbit) -> Result<(Redis, Companion)> {
    let redis = Redis::start().await?;
    let companion = Settings::unit(name, &[peer], &redis, rabbit)
        .start()
        .await?;
    companion.is_ready().await?;
    Ok((redis, companion))
}

/// From here on Redis is at its memory limit.
fn fill(redis: &Redis) -> Result<()> {
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"])?;
    let refused = redis.cli(&["SET", "room", "x"]);
    ensure!(refused.is_err(), "there is room left: {refused:?}");
    Ok(())
}

/// Ops in all outboxes, as `redis-cli` counts them.
fn waiting(redis: &Redis) -> Result<u64> {
    let script = "local count = 0 \
        for _, key in ipairs(redis.call('KEYS', 'unitring:{*:*}:outbox')) do \
          count = count + redis.call('XLEN', key) \
        end return count";
    Ok(redis.cli(&["EVAL", script, "0"])?.parse()?)
}

/// Whether Redis holds a value for the record.
fn has(redis: &Redis, key: &str) -> Result<bool> {
    let pattern = format!("unitring:{{*}}:r:profiles/{key}");
    Ok(!redis.cli(&["--scan", "--pattern", &pattern])?.is_empty())
}

async fn call(companion: &Companion, method: Method, key: &str) -> Result<u16> {
    let path = format!("/v1/data/profiles/{key}");
    let answer = companion.call(method, &path, value().into_bytes()).await?;
    Ok(answer.status().as_u16())
}

async fn leads(companion: &Companion) -> Result<()> {
    until("the companion to lead", async || {
        let units = companion.get("/v1/units").await?;
        ensure!(units["role"] == "leader", "{}", units["role"]);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_still_leads_sends_trims_deletes_and_takes_deletions() -> Result<()> {
    let mut rabbit = Rabbit::start().await?;
    let (east_redis, mut east) = unit("east", "west", &rabbit).await?;
    let (west_redis, west) = unit("west", "east", &rabbit).await?;
    rabbit
        .keeps(&["unitring.sync.east", "unitring.sync.west"])
        .await?;
    rabbit.kill()?;
    for number in 0..20 {
        east.put_record(&format!("k{number}"), &value()).await?;
    }
    ensure!(waiting(&east_redis)? == 20);
    fill(&east_redis)?;
    assert_eq!(call(&east, Method::PUT, "more").await?, 503);
    assert_eq!(call(&east, Method::DELETE, "k0").await?, 200);
    ensure!(!has(&east_redis, "k0")?, "it is not free");
    // A companion that starts now leads, sends the waiting ops, and trims the outbox.
    east.restart().await?;
    leads(&east).await?;
    rabbit.restart().await?;
    until("what waited to be sent and removed", async || {
        let waiting = waiting(&east_redis)?;
        ensure!(waiting == 0, "{waiting} ops");
        Ok(())
    })
    .await?;
    west.has_record("k19", &value()).await?;
    ensure!(!has(&west_redis, "k0")?, "a deletion did not arrive");

    // The receiving side: changes that free memory are applied first, the others wait for room.
    east_redis.cli(&["CONFIG", "SET", "maxmemory", "0"])?;
    fill(&west_redis)?;
    east.put_record("late", &value()).await?;
    assert_eq!(call(&east, Method::DELETE, "k1").await?, 200);
    until("the deletion to be applied", async || {
        ensure!(!has(&west_redis, "k1")?, "it is there still");
        Ok(())
    })
    .await?;
    ensure!(!has(&west_redis, "late")?, "memory was at its limit");
    west_redis.cli(&["CONFIG", "SET", "maxmemory", "0"])?;
    west.has_record("late", &value()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_bounded_in_bytes_too() -> Result<()> {
    let (redis, rabbit) = (Redis::start().await?, Rabbit::start().await?);
    let away = format!("amqp://guest:guest@127.0.0.1:{}/%2f", ports::free()?);
    let settings = Settings::unit("east", &["west"], &redis, &rabbit)
        .variable("UNITRING_SYNC_AMQP_URL", &away)
        .variable("UNITRING_SYNC_OUTBOX_BYTES_MAX", "2097152");
    let companion = settings.start().await?;
    for _ in 0..12 {
        let large = "x".repeat(1 << 20);
        let path = "/v1/data/profiles/one";
        companion
            .call(Method::PUT, path, large.into_bytes())
            .await?;
    }
    until("the oldest to have gone", async || {
        let keys = redis.cli(&["--scan", "--pattern", "unitring:{*:*}:outbox"])?;
        let key = keys.lines().next().context("no outbox")?;
        let bytes: u64 = redis
            .cli(&["MEMORY", "USAGE", key, "SAMPLES", "0"])?
            .parse()?;
        let dropped = companion
            .metric("unitring_companion_outbox_dropped_total")
            .await?;
        ensure!(
            bytes < 3 << 20 && dropped > 0.0,
            "{bytes} bytes, {dropped} dropped"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_with_another_quota_of_the_queue_than_its_unit_is_refused_and_says_which()
-> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (redis, east) = unit("east", "west", &rabbit).await?;
    leads(&east).await?;
    let other = Settings::unit("east", &["west"], &redis, &rabbit)
        .variable("UNITRING_SYNC_QUEUE_BYTES_MAX", "67108864")
        .start()
        .await?;
    assert_eq!(call(&other, Method::PUT, "k").await?, 503);
    let ready = other.call(Method::GET, "/readyz", vec![]).await?;
    let text = ready.text().await?;
    ensure!(
        text.contains("queue_bytes_max 67108864") && text.contains("queue_bytes_max 1073741824"),
        "{text}"
    );
    // The unit goes on with what it agreed on.
    assert_eq!(call(&east, Method::PUT, "k").await?, 201);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_that_would_send_to_other_queues_than_its_unit_is_refused() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (redis, east) = unit("east", "west", &rabbit).await?;
    leads(&east).await?;
    let settings = Settings::unit("east", &["west"], &redis, &rabbit);
    let url = rabbit.url();
    let elsewhere = format!(
        "{}/other",
        url.trim_end_matches("/%2f").trim_end_matches('/')
    );
    let own = format!("west={url}");
    for (name, value, said) in [
        (
            "UNITRING_SYNC_AMQP_URL",
            &elsewhere,
            "east=other west=other",
        ),
        ("UNITRING_SYNC_BROKERS", &own, "west=/ at its own broker"),
    ] {
        let other = settings.clone().variable(name, value).start().await?;
        assert_eq!(call(&other, Method::PUT, "k").await?, 503);
        let ready = other.call(Method::GET, "/readyz", vec![]).await?;
        let text = ready.text().await?;
        ensure!(text.contains(said), "{said}: {text}");
        ensure!(text.contains("virtual hosts east=/ west=/"), "{text}");
    }
    // A companion joins the agreement of an earlier version, as far as that goes.
    let agreed = redis.cli(&["GET", "unitring:{east}:agreed"])?;
    let (before, _) = agreed.split_once(", virtual hosts").context("not there")?;
    redis.cli(&["SET", "unitring:{east}:agreed", before])?;
    let beside = settings.start().await?;
    assert_eq!(call(&beside, Method::PUT, "k").await?, 201);
    drop(east);
    leads(&beside).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_with_other_members_than_its_unit_leads_nothing_and_writes_nothing()
-> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (redis, mut east) = unit("east", "west", &rabbit).await?;
    leads(&east).await?;
    let agreed = redis.cli(&["GET", "unitring:{east}:agreed"])?;
    ensure!(agreed.starts_with("peers west,"), "{agreed}");
    let alone = Settings::on_redis(&redis).variable("UNITRING_UNIT", "east");
    let alone = alone.start().await?;
    let refused = async |companion: &Companion| -> Result<()> {
        let path = "/v1/data/profiles/ada";
        let answer = companion.call(Method::PUT, path, b"v".to_vec()).await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        ensure!(
            status == 503 && text.contains("not that of its unit"),
            "{status} {text}"
        );
        let ready = companion.call(Method::GET, "/readyz", vec![]).await?;
        ensure!(ready.status().as_u16() == 503);
        let text = ready.text().await?;
        ensure!(
            text.contains("no peers") && text.contains("peers west"),
            "{text}"
        );
        Ok(())
    };
    refused(&alone).await?;
    east.kill()?;
    until("nobody to lead", async || {
        let leader = redis.cli(&["GET", "unitring:{east}:leader"])?;
        ensure!(leader.is_empty(), "{leader} leads");
        Ok(())
    })
    .await?;
    refused(&alone).await?;
    // `unit agree` makes the deviating configuration the unit's; then the other companion is refused,
    // even while it runs.
    east.restart().await?;
    leads(&east).await?;
    let output = std::process::Command::new(programs::built("unitring")?)
        .args(["unit", "agree"])
        .env("UNITRING_URL", format!("http://127.0.0.1:{}", alone.port))
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    alone.put_record("ada", "v").await?;
    leads(&alone).await?;
    until("the other to be refused", async || {
        let path = "/v1/data/profiles/ada";
        let answer = east.call(Method::PUT, path, b"v".to_vec()).await?;
        ensure!(answer.status().as_u16() == 503);
        Ok(())
    })
    .await
}
