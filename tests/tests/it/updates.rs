//! Data updates that a filter hands to the companion: each is stored once, in the order of its source, even if it was
//! sent again, came late, hung up or was killed in between.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use unitring_protocol::record::{VALUE_BYTES_MAX, Value as Bytes};
use unitring_protocol::updates::{SEQUENCE_MAX, TTL_MS_MAX, UPDATES_MAX};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::redis::Redis;

const PATH: &str = "/v1/updates";

/// An update that puts a value.
fn put(sequence: u64, key: &str, value: &str) -> Value {
    let value = Bytes(value.as_bytes().to_vec());
    json!({"sequence": sequence, "dataset": "carts", "key": key, "value": value})
}

fn delete(sequence: u64, key: &str) -> Value {
    json!({"sequence": sequence, "dataset": "carts", "key": key, "delete": true})
}

/// A batch of one VM of this Envoy.
fn batch(source: &str, updates: &[Value]) -> Vec<u8> {
    let batch = json!({
        "version": 1, "source": source, "vm": 7, "service": "orders", "updates": updates,
    });
    batch.to_string().into_bytes()
}

/// The updates of the batch that are not stored: sequence and status.
fn failed(answer: &Value) -> Result<Vec<(u64, u64)>> {
    ensure!(answer["version"] == 1, "{answer}");
    let failed = answer["failed"].as_array();
    let pair = |one: &Value| Some((one["sequence"].as_u64()?, one["status"].as_u64()?));
    let pairs = failed.into_iter().flatten().map(pair);
    pairs.collect::<Option<_>>().context("no pairs")
}

/// Sends a batch; returns the updates that are not stored.
async fn sent(companion: &Companion, source: &str, updates: &[Value]) -> Result<Vec<(u64, u64)>> {
    let body = batch(source, updates);
    let answer = companion.call(Method::POST, PATH, body).await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status == 200, "{status}: {text}");
    failed(&serde_json::from_str(&text)?)
}

async fn all_stored(companion: &Companion, source: &str, updates: &[Value]) -> Result<()> {
    let failed = sent(companion, source, updates).await?;
    ensure!(failed.is_empty(), "{failed:?}");
    Ok(())
}

/// Version and value of a record, if there is one.
async fn record(companion: &Companion, key: &str) -> Result<Option<(String, String)>> {
    let path = format!("/v1/data/carts/{key}");
    let answer = companion.call(Method::GET, &path, vec![]).await?;
    if answer.status() == 404 {
        return Ok(None);
    }
    ensure!(answer.status() == 200, "{key}: {}", answer.status());
    let tag = answer.headers().get("etag").context("no etag")?;
    let tag = tag.to_str()?.to_owned();
    Ok(Some((tag, answer.text().await?)))
}

async fn value(companion: &Companion, key: &str) -> Result<Option<String>> {
    Ok(record(companion, key).await?.map(|(_, value)| value))
}

async fn counted(companion: &Companion, outcome: &str) -> Result<f64> {
    let name = format!("unitring_companion_updates_total{{outcome=\"{outcome}\"}}");
    companion.metric(&name).await
}

/// Sends a batch and reads no answer; the caller hangs up by dropping the stream.
async fn unread(companion: &Companion, body: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", companion.port)).await?;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    Ok(stream)
}

/// The promises on any store.
async fn each_applies_once_and_in_order(companion: &Companion) -> Result<()> {
    let mut brief = put(3, "brief", "b");
    brief["ttl_ms"] = 3_600_000.into();
    let empty = json!({"sequence": 4, "dataset": "carts", "key": "empty"});
    let first = [
        put(1, "a", "one"),
        put(2, "a", "two"),
        brief,
        empty,
        delete(5, "none"),
    ];
    all_stored(companion, "e~1", &first).await?;
    let (version, two) = record(companion, "a").await?.context("no a")?;
    ensure!(two == "two", "{two}");
    ensure!(value(companion, "empty").await?.as_deref() == Some(""));
    let read = companion
        .call(Method::GET, "/v1/data/carts/brief", vec![])
        .await?;
    ensure!(read.headers().contains_key("x-unitring-expires"));
    let applied = counted(companion, "applied").await?;
    let repeated = counted(companion, "repeated").await?;
    // If two updates of a record are sent at once, the later may arrive first.
    ensure!((4.0..=5.0).contains(&applied) && applied + repeated == 5.0);

    // Again: nothing is written.
    all_stored(companion, "e~1", &first).await?;
    ensure!(counted(companion, "applied").await? == applied);
    ensure!(counted(companion, "repeated").await? == repeated + 5.0);
    let again = record(companion, "a").await?.context("no a")?;
    ensure!(again == (version, two), "{again:?}");

    // Late, after a write of another client, of another Envoy, and after deletions.
    companion
        .call(Method::PUT, "/v1/data/carts/a", b"written".to_vec())
        .await?;
    all_stored(companion, "e~1", &first).await?;
    ensure!(value(companion, "a").await?.as_deref() == Some("written"));
    all_stored(companion, "e~2", &[put(1, "a", "other")]).await?;
    all_stored(companion, "e~1", &[put(2, "a", "two")]).await?;
    ensure!(value(companion, "a").await?.as_deref() == Some("other"));
    all_stored(companion, "e~1", &[delete(9, "a"), put(4, "none", "late")]).await?;
    all_stored(companion, "e~1", &[put(8, "a", "late")]).await?;
    ensure!(value(companion, "a").await?.is_none() && value(companion, "none").await?.is_none());
    all_stored(companion, "e~1", &[put(10, "a", "ten")]).await?;
    ensure!(value(companion, "a").await?.as_deref() == Some("ten"));
    Ok(())
}

async fn wrong_ones_are_refused_alone(companion: &Companion) -> Result<()> {
    let with = |sequence: u64, field: &str, value: Value| {
        let mut update = put(sequence, "wrong", "x");
        update[field] = value;
        update
    };
    let too_large = Bytes(vec![0; VALUE_BYTES_MAX + 1]);
    let updates = [
        put(100, "right", "one"),
        with(101, "dataset", "unitring".into()),
        with(102, "dataset", "not a name".into()),
        with(103, "key", "".into()),
        with(104, "ttl_ms", 0.into()),
        with(105, "ttl_ms", (TTL_MS_MAX + 1).into()),
        with(106, "delete", true.into()),
        with(107, "value", json!(too_large)),
        with(SEQUENCE_MAX, "key", "wrong".into()),
        put(108, "right", "two"),
    ];
    let expected: Vec<(u64, u64)> = [101, 102, 103, 104, 105, 106]
        .map(|sequence| (sequence, 400))
        .into_iter()
        .chain([(107, 413), (SEQUENCE_MAX, 400)])
        .collect();
    let failed = sent(companion, "e~3", &updates).await?;
    ensure!(failed == expected, "{failed:?}");
    ensure!(value(companion, "right").await?.as_deref() == Some("two"));
    ensure!(value(companion, "wrong").await?.is_none());
    ensure!(counted(companion, "refused").await? == 8.0);
    let log = companion.log();
    let told = log
        .lines()
        .filter(|line| line.contains("data updates are refused"));
    let told: Vec<&str> = told.collect();
    ensure!(
        told.len() == 1 && told[0].contains("orders") && told[0].contains("e~3"),
        "{told:?}"
    );

    let most = vec![put(200, "right", "most"); UPDATES_MAX];
    all_stored(companion, "e~3", &most).await?;
    let one_more = batch("e~3", &vec![put(201, "right", "more"); UPDATES_MAX + 1]);
    let newer = json!({"version": 2, "updates": {}})
        .to_string()
        .into_bytes();
    for (body, word) in [
        (one_more, "at most 512"),
        (newer, "version 2: newer than 1"),
        (b"{".to_vec(), "body"),
    ] {
        let answer = companion.call(Method::POST, PATH, body).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 400 && text.contains(word), "{status}: {text}");
    }
    ensure!(value(companion, "right").await?.as_deref() == Some("most"));
    let large = companion
        .call(Method::POST, PATH, vec![b' '; (8 << 20) + 1])
        .await?;
    ensure!(large.status() == 413, "{}", large.status());
    let other = companion.call(Method::PUT, PATH, vec![]).await?;
    ensure!(other.status() == 405, "{}", other.status());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_update_applies_once_and_in_the_order_of_its_source() -> Result<()> {
    let redis = Redis::start().await?;
    for settings in [Settings::default(), Settings::on_redis(&redis)] {
        let companion = settings.start().await?;
        each_applies_once_and_in_order(&companion).await?;
        wrong_ones_are_refused_alone(&companion).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_sender_hangs_up_is_stored_nevertheless() -> Result<()> {
    let redis = Redis::start().await?;
    for settings in [Settings::default(), Settings::on_redis(&redis)] {
        let companion = settings.start().await?;
        let updates: Vec<Value> = (1..)
            .zip(0..UPDATES_MAX)
            .map(|(sequence, number)| put(sequence, &number.to_string(), "v"))
            .collect();
        let stream = unread(&companion, &batch("e~1", &updates)).await?;
        let stored = until("the first to be stored", async || {
            let applied = counted(&companion, "applied").await?;
            ensure!(applied > 0.0);
            Ok(applied)
        })
        .await?;
        println!("{stored} were stored when the sender hung up");
        drop(stream);
        companion
            .counts("unitring_companion_updates_total{outcome=\"applied\"} 512")
            .await?;
        companion
            .counts("unitring_companion_update_bytes_total 512")
            .await?;
        let last = (UPDATES_MAX - 1).to_string();
        ensure!(value(&companion, &last).await?.as_deref() == Some("v"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_after_a_crash_changes_nothing_that_was_stored() -> Result<()> {
    let redis = Redis::start().await?;
    for settings in [Settings::default(), Settings::on_redis(&redis)] {
        let mut companion = settings.start().await?;
        let key = |number: usize| format!("k{number}");
        let updates: Vec<Value> = (1..)
            .zip(0..UPDATES_MAX)
            .map(|(sequence, number)| put(sequence, &key(number), "v"))
            .collect();
        let _stream = unread(&companion, &batch("e~1", &updates)).await?;
        until("the first record", async || {
            record(&companion, &key(0)).await?.context("none yet")
        })
        .await?;
        companion.kill()?;
        companion.restart().await?;
        companion.is_ready().await?;
        let mut before = BTreeMap::new();
        for number in 0..UPDATES_MAX {
            let stored = record(&companion, &key(number)).await?;
            before.extend(stored.map(|(version, _)| (number, version)));
        }
        println!("{} of {UPDATES_MAX} were stored", before.len());
        ensure!(!before.is_empty());
        all_stored(&companion, "e~1", &updates).await?;
        for number in 0..UPDATES_MAX {
            let stored = record(&companion, &key(number)).await?;
            let (version, value) = stored.context("lost")?;
            let was = before.get(&number);
            ensure!(
                value == "v" && was.is_none_or(|was| *was == version),
                "{number}"
            );
        }
        let repeated = counted(&companion, "repeated").await?;
        ensure!(
            repeated == f64::from(u32::try_from(before.len())?),
            "{repeated}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_token_updates_the_datasets_that_it_has() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("tokens.toml");
    fs::write(
        &file,
        "[edge]\ntoken = \"edge-token\"\nroles = [\"report\"]\ndatasets = [\"cart*\"]\n\
         [all]\ntoken = \"all-token\"\nroles = [\"report\"]\n\
         [app]\ntoken = \"app-token\"\nroles = [\"read\", \"write\"]\n",
    )?;
    let companion = Settings::default()
        .variable("UNITRING_TOKENS_FILE", &file.display().to_string())
        .start()
        .await?;
    let mut other = put(2, "k", "other");
    other["dataset"] = "users".into();
    let updates = [put(1, "k", "mine"), other];
    let body = batch("e~1", &updates);
    for (token, status, expected) in [
        ("app-token", 403, vec![]),
        ("edge-token", 200, vec![(2, 403)]),
        ("all-token", 200, vec![]),
    ] {
        let answer = companion
            .call_as(token, Method::POST, PATH, body.clone())
            .await?;
        ensure!(answer.status() == status, "{token}: {}", answer.status());
        if status == 200 {
            let failed = failed(&answer.json().await?)?;
            ensure!(failed == expected, "{token}: {failed:?}");
        }
    }
    let stranger = companion.call(Method::POST, PATH, body.clone()).await?;
    ensure!(stranger.status() == 401, "{}", stranger.status());
    // By the name of another client's Envoy: it overtakes none of its updates.
    let far = batch("e~1", &[put(SEQUENCE_MAX - 1, "k", "far")]);
    companion
        .call_as("all-token", Method::POST, PATH, far)
        .await?;
    let next = batch("e~1", &[put(3, "k", "still mine")]);
    companion
        .call_as("edge-token", Method::POST, PATH, next)
        .await?;
    let path = "/v1/data/carts/k";
    let read = companion
        .call_as("app-token", Method::GET, path, vec![])
        .await?;
    ensure!(read.text().await? == "still mine");
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_full_or_away_takes_updates_again_later() -> Result<()> {
    let mut redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).start().await?;
    all_stored(&companion, "e~1", &[put(1, "a", "one")]).await?;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"])?;
    // A deletion of a record frees memory; a deletion of no record, and a put, need some.
    let updates = [put(2, "b", "two"), delete(3, "a"), delete(4, "none")];
    let failed = sent(&companion, "e~1", &updates).await?;
    ensure!(failed == [(2, 503), (4, 503)], "{failed:?}");
    ensure!(value(&companion, "a").await?.is_none());
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"])?;
    all_stored(&companion, "e~1", &updates).await?;
    all_stored(
        &companion,
        "e~1",
        &[put(1, "a", "one"), put(3, "none", "x")],
    )
    .await?;
    ensure!(value(&companion, "a").await?.is_none() && value(&companion, "none").await?.is_none());
    ensure!(counted(&companion, "failed").await? == 2.0);

    redis.kill()?;
    let failed = sent(&companion, "e~1", &[put(5, "c", "five")]).await?;
    ensure!(failed == [(5, 503)], "{failed:?}");
    redis.restart().await?;
    until("updates to be taken again", async || {
        all_stored(&companion, "e~1", &[put(5, "c", "five")]).await
    })
    .await?;
    // The stamps outlast the server, too.
    all_stored(&companion, "e~1", &[put(2, "b", "again")]).await?;
    ensure!(value(&companion, "b").await?.as_deref() == Some("two"));
    Ok(())
}
