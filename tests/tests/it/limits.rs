//! A message too large for a broker, a queue that another companion reads, a store that went back: each
//! is named, and holds up nothing else.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;

/// A unit that compares digests twice a second, with its store.
async fn unit(name: &str, peer: &str, rabbit: &Rabbit) -> Result<(Redis, Companion)> {
    let redis = Redis::start().await?;
    let settings = Settings::unit(name, &[peer], &redis, rabbit)
        .variable("UNITRING_SYNC_DIGEST_INTERVAL", "500ms");
    Ok((redis, settings.start().await?))
}

/// Ops in all outboxes, as `redis-cli` counts them.
fn waiting(redis: &Redis) -> Result<u64> {
    let script = "local count = 0 \
        for _, key in ipairs(redis.call('KEYS', 'unitring:{*:*}:outbox')) do \
          count = count + redis.call('XLEN', key) \
        end return count";
    Ok(redis.cli(&["EVAL", script, "0"])?.parse()?)
}

async fn nothing_waits(redis: &Redis) -> Result<()> {
    until("the outbox to be empty", async || {
        let waiting = waiting(redis)?;
        ensure!(waiting == 0, "{waiting} ops");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_over_the_brokers_limit_is_named_and_holds_up_nothing() -> Result<()> {
    let rabbit = Rabbit::start_with(&["max_message_size = 1000000"]).await?;
    let (redis, east) = unit("east", "west", &rabbit).await?;
    let (_west_redis, west) = unit("west", "east", &rabbit).await?;
    east.is_ready().await?;
    west.is_ready().await?;
    east.put_record("large", &"x".repeat(1 << 20)).await?;
    // Each value fits alone, but not both together.
    let half = "y".repeat(500 << 10);
    for key in ["one", "two", "three"] {
        east.put_record(key, &half).await?;
    }
    east.put_record("small", "behind it").await?;
    west.has_record("small", "behind it").await?;
    for key in ["one", "two", "three"] {
        west.has_record(key, &half).await?;
    }
    nothing_waits(&redis).await?;
    let named = async |wanted: bool| {
        until("what is too large to be named, or no more", async || {
            let units = east.get("/v1/units").await?;
            let why = &units["sync"]["links"]["west"]["unsendable"]["profiles/large"];
            let is_named = why.as_str().is_some_and(|why| why.contains("1000000"));
            ensure!(is_named == wanted, "{}", units["sync"]["links"]);
            Ok(())
        })
        .await
    };
    named(true).await?;
    let failures = east
        .metric("unitring_companion_link_failures_total")
        .await?;
    ensure!(failures <= 5.0, "{failures} connections ended");
    east.is_ready().await?;
    // A later change that fits is sent.
    east.put_record("large", "no more").await?;
    west.has_record("large", "no more").await?;
    named(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_unit_of_a_name_says_that_another_one_reads_its_queue() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (_east_redis, east) = unit("east", "west", &rabbit).await?;
    let (_west_redis, mut west) = unit("west", "east", &rabbit).await?;
    east.is_ready().await?;
    west.is_ready().await?;
    let (_other_redis, other) = unit("west", "east", &rabbit).await?;
    until("it to say so", async || {
        let ready = other.call(Method::GET, "/readyz", vec![]).await?;
        let (status, text) = (ready.status().as_u16(), ready.text().await?);
        ensure!(
            status == 503 && text.contains("another consumer reads"),
            "{status} {text}"
        );
        Ok(())
    })
    .await?;
    west.stop().await?;
    other.is_ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_went_back_keeps_no_op_for_ever_and_all_agree() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (redis, east) = unit("east", "west", &rabbit).await?;
    let (_west_redis, west) = unit("west", "east", &rabbit).await?;
    east.is_ready().await?;
    west.is_ready().await?;
    let write = async |from: u8, to: u8| -> Result<()> {
        for value in from..=to {
            east.put_record("ada", &value.to_string()).await?;
        }
        west.has_record("ada", &to.to_string()).await
    };
    write(1, 3).await?;
    nothing_waits(&redis).await?;
    let found = redis.cli(&["--scan", "--pattern", "unitring:{*}:r:profiles/ada"])?;
    let bucket = found.split("r:profiles").next().context("no record")?;
    let keys = redis.cli(&["--scan", "--pattern", &format!("{bucket}*")])?;
    for key in keys.lines() {
        redis.cli(&["COPY", key, &format!("copy of {key}")])?;
    }
    write(4, 6).await?;
    nothing_waits(&redis).await?;
    // As after a fail-over to a replica that was behind: fewer changes, then other changes with the same
    // numbers.
    for (from, to) in [(7, 7), (8, 12)] {
        for key in keys.lines() {
            redis.cli(&["COPY", &format!("copy of {key}"), key, "REPLACE"])?;
        }
        write(from, to).await?;
        nothing_waits(&redis).await?;
    }
    Ok(())
}
