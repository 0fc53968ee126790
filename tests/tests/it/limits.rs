//! A message too large for a broker, a queue that another companion reads, a store that went back: each
//! is named, and holds up nothing else.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::programs;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::report::{instance, report, service};

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

/// Waits until this is named as too large for west's broker, or no more.
async fn is_named(east: &Companion, name: &str, wanted: bool) -> Result<()> {
    until(&format!("{name} to be named: {wanted}"), async || {
        let units = east.get("/v1/units").await?;
        let unsendable = &units["sync"]["links"]["west"]["unsendable"];
        ensure!(
            unsendable[name].is_string() == wanted,
            "{}",
            units["sync"]["links"]
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_names_the_records_that_it_leaves_out() -> Result<()> {
    let rabbit = Rabbit::start_with(&["max_message_size = 1000000"]).await?;
    let (redis, mut east) = unit("east", "west", &rabbit).await?;
    let (west_redis, west) = unit("west", "east", &rabbit).await?;
    east.is_ready().await?;
    west.is_ready().await?;
    east.put_record("large", &"x".repeat(1 << 20)).await?;
    east.put_record("small", "beside it").await?;
    west.has_record("small", "beside it").await?;
    is_named(&east, "profiles/large", true).await?;
    // Another process knows nothing of it, and has no op of it to send.
    nothing_waits(&redis).await?;
    east.restart().await?;
    east.is_ready().await?;
    is_named(&east, "profiles/large", false).await?;
    west_redis.cli(&["FLUSHALL"])?;
    west.has_record("small", "beside it").await?;
    is_named(&east, "profiles/large", true).await?;
    let left_out = "unitring_companion_changes_unsendable_total";
    ensure!(east.metric(left_out).await? >= 1.0);
    let failures = "unitring_companion_link_failures_total";
    ensure!(east.metric(failures).await? <= 5.0);
    let (_, text) = east.ask(&["status"])?;
    ensure!(text.contains("are too large: profiles/large"), "{text}");
    // What fits is repaired, too, and no longer named.
    east.put_record("large", "no more").await?;
    west.has_record("large", "no more").await?;
    is_named(&east, "profiles/large", false).await
}

/// Loads fixed data of this many values into a unit's store.
fn load_fixed(folder: &std::path::Path, redis: &Redis, values: usize, bytes: usize) -> Result<()> {
    let lines = (0..values).map(|key| {
        let line = json!({"dataset": "d", "key": format!("{key}"), "value": "v".repeat(bytes)});
        format!("{line}\n")
    });
    let file = folder.join("fixed.jsonl");
    std::fs::write(&file, lines.collect::<String>())?;
    let output = Command::new(programs::built("unitring")?)
        .args(["group", "create"])
        .env("UNITRING_UNIT", "east")
        .env("UNITRING_GROUP_SERVERS", redis.url())
        .env("UNITRING_GROUP_FIXED_DATA", &file)
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_is_split_for_a_broker_with_a_limit_or_named() -> Result<()> {
    let rabbit = Rabbit::start_with(&["max_message_size = 20000"]).await?;
    let (redis, east) = unit("east", "west", &rabbit).await?;
    let (_west_redis, west) = unit("west", "east", &rabbit).await?;
    east.is_ready().await?;
    west.is_ready().await?;
    // Fixed data in one part are too large, and so are two of its parts.
    let folder = tempfile::tempdir()?;
    load_fixed(folder.path(), &redis, 2_000, 300)?;
    let has_fixed = async |version: u64| {
        until("the fixed data to be there", async || {
            let fixed = west.get("/v1/fixed").await?;
            ensure!(fixed["version"] == version, "{fixed}");
            Ok(())
        })
        .await
    };
    has_fixed(1).await?;
    // Events, and the loads of a reporter with more instances than a message holds.
    let load = |number: u64| {
        instance(
            &format!("a{number:04}"),
            &format!("10.0.0.1:{}", 1_000 + number),
            number + 1,
        )
    };
    let event = |number: u64| {
        json!({"number": number, "at_ms": 1_700_000_000_000_u64, "kind": "added", "instance": format!("e{number}"),
            "reason": "r".repeat(256), "ring": "", "moved": 0.0})
    };
    let mut orders = service("orders", (0..2_000).map(load).collect());
    orders["events"] = (1..=200).map(event).collect();
    let mut told = report("e~1", 1, vec![orders]);
    told["interval_ms"] = 120_000.into();
    east.report(&told).await?;
    west.tells("added", "e200", "r").await?;
    west.tells("added", "e1", "r").await?;
    until("the greatest loads to count", async || {
        let service = west.get("/v1/services/orders").await?;
        let instances = service["instances"].as_array().context("none")?;
        let loads = instances.iter().filter_map(|it| it["in_flight"].as_u64());
        let loads: Vec<u64> = loads.filter(|load| *load > 0).collect();
        ensure!(loads.contains(&2_000) && !loads.contains(&1), "{loads:?}");
        Ok(())
    })
    .await?;
    is_named(&east, "loads of e~1 for orders", true).await?;
    // A value that no message holds is named, and is no reason to connect again and again.
    load_fixed(folder.path(), &redis, 1, 30_000)?;
    is_named(&east, "fixed data", true).await?;
    load_fixed(folder.path(), &redis, 10, 300)?;
    has_fixed(3).await?;
    is_named(&east, "fixed data", false).await?;
    // Digests of all buckets are too large, but records go on.
    let lines = (0..1_500).map(|key| json!({"key": format!("k{key}"), "text": "v"}).to_string());
    let lines: Vec<String> = lines.collect();
    for lines in lines.chunks(500) {
        let body = lines.join("\n").into_bytes();
        let answer = east.call(Method::POST, "/v1/data/profiles", body).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
    }
    is_named(&east, "digests", true).await?;
    west.has_record("k1499", "v").await?;
    nothing_waits(&redis).await?;
    let failures = "unitring_companion_link_failures_total";
    for companion in [&east, &west] {
        let failures = companion.metric(failures).await?;
        ensure!(failures <= 5.0, "{failures} connections ended");
    }
    until("the link to be well", async || {
        let units: Value = east.get("/v1/units").await?;
        ensure!(units["sync"]["links"]["west"]["state"] == "ok", "{units}");
        Ok(())
    })
    .await
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
