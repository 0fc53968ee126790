//! Untrustworthy input: dates and clocks that no store can keep, digests that contradict, rows that
//! unitring did not write. Each affects nothing but itself, and there is a way back.

use anyhow::{Context, Result, ensure};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use reqwest::Method;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;
use unitring_tests::unit_group::unit;

/// The year 2500, in ms since the Unix epoch.
const YEAR_2500: u64 = 16_725_225_600_000;

/// The prefix of the keys of the bucket that has a record of `profiles`.
fn bucket(redis: &Redis, key: &str) -> Result<String> {
    let pattern = format!("unitring:{{*}}:r:profiles/{key}");
    let found = redis.cli(&["--scan", "--pattern", &pattern])?;
    let end = found.find("r:profiles").context("no such record")?;
    Ok(found[..end].to_owned())
}

async fn batch(companion: &Companion, line: &Value) -> Result<(u16, String)> {
    let body = line.to_string().into_bytes();
    let answer = companion
        .call(Method::POST, "/v1/data/profiles", body)
        .await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_beyond_all_bounds_is_refused_and_a_row_that_has_one_condemns_nothing() -> Result<()>
{
    let rabbit = Rabbit::start().await?;
    let (east_redis, east) = unit("east", "west", &rabbit).await?;
    let (west_redis, west) = unit("west", "east", &rabbit).await?;
    east.put_record("ada", "good").await?;
    west.has_record("ada", "good").await?;
    for expires_ms in [1_u64 << 53, 1 << 62, u64::MAX] {
        let line = json!({"key": "ada", "text": "bad", "expires_ms": expires_ms});
        let (status, text) = batch(&east, &line).await?;
        ensure!(
            status == 400 && text.contains("expires_ms"),
            "{status} {text}"
        );
    }
    let bucket = bucket(&east_redis, "ada")?;
    let versions = format!("{bucket}versions");
    // The leftover of an older program, and a name that is not UTF-8.
    let mark = "5.0@east~18446744073709551616";
    east_redis.cli(&["HSET", &versions, "profiles/left", mark])?;
    let script = "return redis.call('HSET', KEYS[1], 'profiles/\\255', '5.0@east')";
    east_redis.cli(&["EVAL", script, "1", &versions])?;
    let listed = east.get("/v1/data/profiles").await?;
    assert_eq!(
        listed["records"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    let (is_done, text) = east.ask(&["data", "export", "--dataset", "profiles"])?;
    ensure!(is_done && text.contains("ada"), "{text}");
    // The bucket is still repaired.
    west_redis.cli(&["FLUSHALL"])?;
    west.has_record("ada", "good").await?;
    east.counts("unitring_companion_records_spoiled 2").await?;
    let units = east.get("/v1/units").await?;
    ensure!(units["spoiled"]["profiles/left"].is_string(), "{units}");
    // Writing the record again repairs it.
    east.put_record("left", "again").await?;
    west.has_record("left", "again").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_redis_let_go_before_its_time_is_not_repaired_as_an_empty_one() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (east_redis, east) = unit("east", "west", &rabbit).await?;
    let (west_redis, mut west) = unit("west", "east", &rabbit).await?;
    let path = "/v1/data/profiles/ada?ttl=1h";
    let put = east.call(Method::PUT, path, b"good".to_vec()).await?;
    ensure!(put.status().is_success(), "{}", put.status());
    east.put_record("empty", "").await?;
    west.has_record("ada", "good").await?;
    west.has_record("empty", "").await?;
    let units = east.get("/v1/units").await?;
    let ahead_ms = units["store_clock_ahead_ms"].as_i64().context("no clock")?;
    ensure!(ahead_ms.abs() < 10_000, "{ahead_ms}");
    let ahead = "unitring_companion_store_clock_ahead_seconds";
    ensure!(east.metric(ahead).await?.abs() < 10.0);
    // The effect of a Redis whose clock is ahead of ours.
    let own = bucket(&east_redis, "ada")?;
    east_redis.cli(&["DEL", &format!("{own}r:profiles/ada")])?;
    west_redis.cli(&["FLUSHALL"])?;
    west.has_record("empty", "").await?;
    let theirs = own.replace("{east", "{west");
    until("the bucket to be repaired", async || {
        let applied = west_redis.cli(&["HEXISTS", &format!("{theirs}applied"), "east"])?;
        ensure!(applied == "1", "{applied}");
        Ok(())
    })
    .await?;
    // As the buckets differ, east would recount its own by itself two seconds later, and forget the record.
    west.kill()?;
    let key = format!("{theirs}r:profiles/ada");
    ensure!(west_redis.cli(&["EXISTS", &key])? == "0", "it is there");
    // The record gets no new version either, with which an empty value would go to the other unit.
    let versions = format!("{own}versions");
    let mark = east_redis.cli(&["HGET", &versions, "profiles/ada"])?;
    let (_, rest) = mark.split_once('.').context("no version")?;
    let before = format!("{YEAR_2500}.{rest}");
    east_redis.cli(&["HSET", &versions, "profiles/ada", &before])?;
    let (is_done, text) = east.ask(&["unit", "repair", "--clocks"])?;
    ensure!(is_done, "{text}");
    ensure!(east_redis.cli(&["HGET", &versions, "profiles/ada"])? == before);
    west.restart().await?;
    let read = west.call(Method::GET, "/v1/data/profiles/ada", vec![]);
    assert_eq!(read.await?.status().as_u16(), 404);
    ensure!(west_redis.cli(&["EXISTS", &key])? == "0", "it is there");
    // Writing the record again repairs it.
    east.put_record("ada", "again").await?;
    west.has_record("ada", "again").await?;
    ensure!(west_redis.cli(&["GET", &key])? == "again", "not there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_gone_come_again_once_somebody_has_them_recounted() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (east_redis, east) = unit("east", "west", &rabbit).await?;
    let (west_redis, west) = unit("west", "east", &rabbit).await?;
    east.put_record("ada", "lasts").await?;
    let path = "/v1/data/profiles/bob?ttl=1h";
    let put = east.call(Method::PUT, path, b"expires".to_vec()).await?;
    ensure!(put.status().is_success(), "{}", put.status());
    west.has_record("ada", "lasts").await?;
    west.has_record("bob", "expires").await?;
    // A server that evicts leaves the marks, and so does a clock that was ahead for a while.
    for key in ["ada", "bob"] {
        let bucket = bucket(&west_redis, key)?;
        west_redis.cli(&["DEL", &format!("{bucket}r:profiles/{key}")])?;
        let path = format!("/v1/data/profiles/{key}");
        let read = west.call(Method::GET, &path, vec![]).await?;
        assert_eq!(read.status().as_u16(), 404);
    }
    let (is_done, text) = west.ask(&["unit", "repair", "--recount"])?;
    ensure!(is_done && text.contains("2 records had lost"), "{text}");
    west.has_record("ada", "lasts").await?;
    west.has_record("bob", "expires").await?;
    for key in ["ada", "bob"] {
        let bucket = bucket(&west_redis, key)?;
        let key = format!("{bucket}r:profiles/{key}");
        let source = key.replace("{west", "{east");
        assert_eq!(
            west_redis.cli(&["GET", &key])?,
            east_redis.cli(&["GET", &source])?
        );
    }
    // It keeps its date.
    let left_ms: i64 = {
        let bucket = bucket(&west_redis, "bob")?;
        west_redis
            .cli(&["PTTL", &format!("{bucket}r:profiles/bob")])?
            .parse()?
    };
    ensure!((1..=3_600_000).contains(&left_ms), "{left_ms}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_contradicts_its_records_is_counted_anew() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (_east_redis, mut east) = unit("east", "west", &rabbit).await?;
    let (west_redis, west) = unit("west", "east", &rabbit).await?;
    east.put_record("ada", "good").await?;
    west.has_record("ada", "good").await?;
    let meta = format!("{}meta", bucket(&west_redis, "ada")?);
    let right = west_redis.cli(&["HGET", &meta, "digest"])?;
    let is_right = async || {
        until("the digest to be right again", async || {
            let digest = west_redis.cli(&["HGET", &meta, "digest"])?;
            ensure!(digest == right, "{digest}");
            Ok(())
        })
        .await
    };
    // Automatically, once repairs do not help.
    west_redis.cli(&["HSET", &meta, "digest", "0123456789abcdef"])?;
    is_right().await?;
    west.counts("unitring_companion_digests_recounted_total 1")
        .await?;
    // And on request; nobody is there whose digests would make it happen by itself first.
    east.kill()?;
    west_redis.cli(&["HSET", &meta, "digest", "0123456789abcdef"])?;
    let (is_done, text) = west.ask(&["unit", "repair", "--recount"])?;
    ensure!(is_done && text.contains("1 digests were wrong"), "{text}");
    is_right().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_the_future_is_set_aside_alone_and_there_is_a_way_back() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (east_redis, east) = unit("east", "west", &rabbit).await?;
    let (west_redis, west) = unit("west", "east", &rabbit).await?;
    east.put_record("ada", "1").await?;
    west.has_record("ada", "1").await?;
    let bucket = bucket(&west_redis, "ada")?;
    let number = bucket.trim_end_matches("}:").rsplit(':').next();
    let number: u8 = number.context("no bucket")?.parse()?;
    let meta = format!("{bucket}meta");
    let clock = || -> Result<u64> { Ok(west_redis.cli(&["HGET", &meta, "ms"])?.parse()?) };
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let record = json!({"dataset": "profiles", "key": "ada", "value": "YmFk", "at": format!("{YEAR_2500}.0@east")});
    let position = format!("{YEAR_2500}.7");
    for body in [
        json!({"kind": "ops", "parts": [{"bucket": number, "incarnation": YEAR_2500, "ops": [
            {"sequence": 1, "dataset": "profiles", "key": "ada", "value": "YmFk", "at": format!("{YEAR_2500}.0@east")}]}]}),
        json!({"kind": "repair", "bucket": number, "records": [record], "positions": {"east": position, "west": position},
            "clock": {"ms": YEAR_2500, "counter": 0}, "is_last": true}),
    ] {
        let message = json!({"version": 1, "from": "east", "body": body}).to_string();
        let (exchange, key) = ("unitring.sync".into(), "to.west".into());
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let publish = channel.basic_publish(exchange, key, options, message.as_bytes(), properties);
        publish.await?.await?;
    }
    west.counts("unitring_companion_records_set_aside_total 2")
        .await?;
    let units = west.get("/v1/units").await?;
    let why = &units["sync"]["set_aside"]["east: profiles/ada"];
    ensure!(
        why.as_str().is_some_and(|why| why.contains("ahead")),
        "{units}"
    );
    ensure!(clock()? < YEAR_2500, "{}", clock()?);
    // The next writes are neither refused nor hidden, in either unit.
    east.put_record("ada", "2").await?;
    west.has_record("ada", "2").await?;
    west.put_record("ada", "3").await?;
    east.has_record("ada", "3").await?;

    // A store that applied such a clock before the bound existed, and made a record with it.
    let own = bucket.replace("{west", "{east");
    let (meta, versions) = (format!("{own}meta"), format!("{own}versions"));
    east_redis.cli(&["HSET", &meta, "ms", &YEAR_2500.to_string()])?;
    let mark = format!("{YEAR_2500}.0@east");
    east_redis.cli(&["HSET", &versions, "profiles/ada", &mark])?;
    let refused = east
        .call(Method::PUT, "/v1/data/profiles/ada", b"4".to_vec())
        .await?;
    let (status, text) = (refused.status().as_u16(), refused.text().await?);
    ensure!(
        status == 503 && text.contains("repair --clocks"),
        "{status} {text}"
    );
    let arguments = ["unit", "repair", "--clocks", "--recount"];
    let (is_done, text) = east.ask(&arguments)?;
    ensure!(
        is_done && text.contains("1 clocks set back, 1 records"),
        "{text}"
    );
    let mark = east_redis.cli(&["HGET", &versions, "profiles/ada"])?;
    ensure!(!mark.starts_with(&YEAR_2500.to_string()), "{mark}");
    east.put_record("ada", "5").await?;
    west.has_record("ada", "5").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_whose_store_began_in_the_future_is_led_back() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let (east_redis, east) = unit("east", "west", &rabbit).await?;
    let (west_redis, west) = unit("west", "east", &rabbit).await?;
    east.put_record("ada", "1").await?;
    west.has_record("ada", "1").await?;
    // As a store is that got its first write by such a clock, whose op the broker has.
    let own = bucket(&east_redis, "ada")?;
    let (meta, versions) = (format!("{own}meta"), format!("{own}versions"));
    let future = YEAR_2500.to_string();
    east_redis.cli(&["HSET", &meta, "ms", &future, "incarnation", &future])?;
    let mark = format!("{future}.0@east");
    east_redis.cli(&["HSET", &versions, "profiles/ada", &mark])?;
    // West took ops of it while its own clock was wrong, too.
    let theirs = own.replace("{east", "{west");
    let known = format!("{future}.1");
    west_redis.cli(&["HSET", &format!("{theirs}applied"), "east", &known])?;
    let refused = east.call(Method::PUT, "/v1/data/profiles/ada", b"2".to_vec());
    assert_eq!(refused.await?.status().as_u16(), 503);
    for companion in [&east, &west] {
        let (is_done, text) = companion.ask(&["unit", "repair", "--clocks"])?;
        ensure!(is_done && text.contains("1 clocks set back"), "{text}");
    }
    for value in ["3", "4"] {
        east.put_record("ada", value).await?;
        west.has_record("ada", value).await?;
    }
    west.put_record("ada", "5").await?;
    east.has_record("ada", "5").await?;
    for (redis, key) in [
        (&east_redis, meta),
        (&west_redis, format!("{theirs}applied")),
    ] {
        let all = redis.cli(&["HGETALL", &key])?;
        ensure!(!all.contains(&future), "{all}");
    }
    // A deletion reaches the other unit, and the outbox becomes empty.
    let deleted = east.call(Method::DELETE, "/v1/data/profiles/ada", vec![]);
    ensure!(deleted.await?.status().is_success());
    until("the deletion and the empty outbox", async || {
        let read = west.call(Method::GET, "/v1/data/profiles/ada", vec![]);
        ensure!(read.await?.status().as_u16() == 404, "it is there");
        let left = east_redis.cli(&["XLEN", &format!("{own}outbox")])?;
        ensure!(left == "0", "{left} ops wait");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn datasets_of_unitring_itself_are_no_clients_business() -> Result<()> {
    let companion = Settings::default().start().await?;
    let removed = "/v1/data/unitring.removed";
    for (method, path) in [
        (Method::PUT, format!("{removed}/west")),
        (Method::DELETE, format!("{removed}/west")),
        (Method::GET, format!("{removed}/west")),
        (Method::GET, removed.to_owned()),
        (Method::POST, removed.to_owned()),
    ] {
        let line = br#"{"key": "west", "text": "x"}"#.to_vec();
        let answer = companion.call(method.clone(), &path, line).await?;
        assert_eq!(answer.status().as_u16(), 400, "{method} {path}");
    }
    let answer = companion
        .call(Method::PUT, "/v1/data/unitrings/west", b"x".to_vec())
        .await?;
    assert_eq!(answer.status().as_u16(), 201);
    // A cursor beyond the maximum of Redis.
    let path = format!("/v1/events?format=json&after={}-{}", u64::MAX, u64::MAX);
    let answer = companion.call(Method::GET, &path, vec![]).await?;
    assert_eq!(answer.status().as_u16(), 400);
    Ok(())
}
