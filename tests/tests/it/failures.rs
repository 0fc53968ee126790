//! Stores that fail: what the caller gets, and that no acknowledged write is lost.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::programs;
use unitring_tests::redis::Redis;
use unitring_tests::writers::Writers;

async fn put(companion: &Companion, key: &str, value: Vec<u8>) -> Result<(StatusCode, String)> {
    let path = format!("/v1/data/d/{key}");
    let answer = companion.call(Method::PUT, &path, value).await?;
    Ok((answer.status(), answer.text().await?))
}

/// A write and `/readyz` are refused with this text; reads go on.
async fn refuses(companion: &Companion, why: &str) -> Result<()> {
    let (status, text) = put(companion, "more", vec![b'x'; 1000]).await?;
    ensure!(status == 503 && text.contains(why), "{status}: {text}");
    let ready = companion.call(Method::GET, "/readyz", vec![]).await?;
    let (status, text) = (ready.status(), ready.text().await?);
    ensure!(status == 503 && text.contains(why), "{status}: {text}");
    companion.has_record("first", "kept").await
}

async fn takes_writes_again(companion: &Companion) -> Result<()> {
    until("writes to be taken again", async || {
        let (status, text) = put(companion, "again", b"x".to_vec()).await?;
        ensure!(status.is_success(), "{status}: {text}");
        Ok(())
    })
    .await?;
    companion.is_ready().await?;
    companion.has_record("first", "kept").await
}

#[tokio::test]
async fn a_full_memory_and_a_failing_disk_refuse_writes_and_lose_nothing() -> Result<()> {
    let redis = Redis::start_with(&["save 3600 1"]).await?;
    let companion = Settings::on_redis(&redis).start().await?;
    companion.put_record("first", "kept").await?;
    redis.cli(&["CONFIG", "SET", "maxmemory", "100kb"])?;
    refuses(&companion, "OOM").await?;
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"])?;
    takes_writes_again(&companion).await?;

    // The effect of a full disk on Redis: a snapshot that cannot be written stops writes.
    let folder = redis.cli(&["CONFIG", "GET", "dir"])?;
    let folder = folder.lines().nth(1).context("no dir")?.to_owned();
    let blocked = format!("{folder}/dump.rdb");
    fs::create_dir_all(format!("{blocked}/in the way"))?;
    redis.cli(&["BGSAVE"])?;
    until("the snapshot to fail", async || {
        let info = redis.cli(&["INFO", "persistence"])?;
        ensure!(info.contains("rdb_last_bgsave_status:err"), "{info}");
        Ok(())
    })
    .await?;
    refuses(&companion, "MISCONF").await?;
    fs::remove_dir_all(&blocked)?;
    redis.cli(&["BGSAVE"])?;
    takes_writes_again(&companion).await
}

#[tokio::test]
async fn a_wrong_password_and_a_newer_layout_are_said_and_mended_while_it_runs() -> Result<()> {
    let redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).start().await?;
    companion.put_record("first", "kept").await?;
    redis.cli(&["CONFIG", "SET", "requirepass", "s3cret"])?;
    // Open connections stay; a new one is refused.
    redis.cli(&["-a", "s3cret", "CLIENT", "KILL", "TYPE", "normal"])?;
    until("the password to be missed", async || {
        let (status, text) = put(&companion, "k", b"v".to_vec()).await?;
        let is_told = text.contains("NOAUTH") || text.contains("uthentication");
        ensure!(status == 503 && is_told, "{status}: {text}");
        ensure!(!text.contains("s3cret"), "{text}");
        Ok(())
    })
    .await?;
    redis.cli(&["-a", "s3cret", "CONFIG", "SET", "requirepass", ""])?;
    takes_writes_again(&companion).await?;

    redis.cli(&["SET", "unitring:{local}:layout", "999"])?;
    let newer = Settings::on_redis(&redis).start().await?;
    let (status, text) = put(&newer, "k", b"v".to_vec()).await?;
    ensure!(
        status == 500 && text.contains("layout 999"),
        "{status}: {text}"
    );
    redis.cli(&["SET", "unitring:{local}:layout", "2"])?;
    takes_writes_again(&newer).await
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_and_one_at_the_limit_kept() -> Result<()> {
    let redis = Redis::start().await?;
    for companion in [
        Settings::default().start().await?,
        Settings::on_redis(&redis).start().await?,
    ] {
        let most = vec![0xff; 1 << 20];
        let (status, text) = put(&companion, "most", most.clone()).await?;
        ensure!(status == 201, "{status}: {text}");
        let (status, text) = put(&companion, "more", vec![0; (1 << 20) + 1]).await?;
        ensure!(status == 413, "{status}: {text}");
        let read = companion
            .call(Method::GET, "/v1/data/d/most", vec![])
            .await?;
        assert_eq!(read.bytes().await?.as_ref(), most);
        let read = companion
            .call(Method::GET, "/v1/data/d/more", vec![])
            .await?;
        assert_eq!(read.status(), 404);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_survives_kills_and_refuses_a_second_process() -> Result<()> {
    let mut companion = Settings::default().start().await?;
    for _ in 0..3 {
        let mut writers = Writers::start(4, &[companion.port]);
        writers.go_on(60).await?;
        companion.kill()?;
        let end = Instant::now();
        companion.restart().await?;
        writers.stop().await?;
        for (key, when) in writers.acknowledged() {
            let path = format!("/v1/data/steady/{key}");
            let answer = companion.call(Method::GET, &path, vec![]).await?;
            let (status, value) = (answer.status(), answer.text().await?);
            ensure!(
                value == key,
                "{key}, {:?} before the end: {status}",
                end.checked_duration_since(when)
            );
        }
        companion.metrics().await?;
    }

    let folder = TempDir::new()?;
    let path = folder.path().join("unitring.redb");
    let path = path.to_str().context("path")?;
    let first = Settings::default().variable("UNITRING_STORE_PATH", path);
    let first = first.start().await?;
    first.put_record("first", "kept").await?;
    let second = Command::new(programs::built("unitring")?)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--xds-listen",
            "127.0.0.1:0",
        ])
        .args(["--store-path", path])
        .output()?;
    let text = String::from_utf8(second.stderr)?;
    ensure!(second.status.code().is_some_and(|code| code != 0), "{text}");
    ensure!(text.contains("in use by another process"), "{text}");
    first.has_record("first", "kept").await
}

/// Limits the size of the files that this process writes.
fn limit_files(companion: &Companion, bytes: &str) -> Result<()> {
    let id = companion.id().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    let done = Command::new("prlimit")
        .args(["--pid", &id, &limit])
        .status()?;
    ensure!(done.success(), "prlimit: {done}");
    Ok(())
}

#[tokio::test]
async fn the_embedded_store_takes_writes_again_once_a_full_disk_has_room() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("unitring.redb");
    let settings = Settings::default()
        .variable("UNITRING_STORE_PATH", path.to_str().context("path")?)
        .outlasting_file_limits();
    let companion = settings.start().await?;
    companion.put_record("first", "kept").await?;
    limit_files(&companion, &fs::metadata(&path)?.len().to_string())?;
    let large = vec![b'x'; 1 << 20];
    let mut taken = Vec::new();
    loop {
        let key = format!("large-{}", taken.len());
        let (status, text) = put(&companion, &key, large.clone()).await?;
        if status == 503 {
            break;
        }
        ensure!(
            status == 201 && taken.len() < 200,
            "{key}: {status}: {text}"
        );
        taken.push(key);
    }
    let ready = async || -> Result<u16> {
        let answer = companion.call(Method::GET, "/readyz", vec![]).await?;
        Ok(answer.status().as_u16())
    };
    assert_eq!(
        ready().await?,
        503,
        "a store that takes no writes is not ready"
    );
    companion.has_record("first", "kept").await?;
    limit_files(&companion, "unlimited")?;
    takes_writes_again(&companion).await?;
    let (status, text) = put(&companion, "last", large.clone()).await?;
    ensure!(status == 201, "{status}: {text}");
    taken.push("last".to_owned());
    for key in taken {
        let path = format!("/v1/data/d/{key}");
        let read = companion.call(Method::GET, &path, vec![]).await?;
        ensure!(read.bytes().await? == large, "{key}");
    }
    Ok(())
}

#[tokio::test]
async fn a_clock_that_was_ahead_orders_writes_and_watchers_as_before() -> Result<()> {
    let redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).start().await?;
    companion.put_record("first", "kept").await?;
    let before = companion.get("/v1/data/profiles?limit=1").await?;
    let version = before["records"][0]["version"]
        .as_str()
        .context("no version")?;
    let now_ms: u64 = version.split('.').next().context("no clock")?.parse()?;
    // An hour ahead: this bucket's clock after the machine's clock was an hour ahead.
    let units = companion.get("/v1/units").await?;
    let bucket = units["buckets"][0]["bucket"].to_string();
    let meta = format!("unitring:{{local:{bucket}}}:meta");
    let ahead = now_ms + 3_600_000;
    redis.cli(&["HSET", &meta, "ms", &ahead.to_string()])?;
    let mut last = String::new();
    for number in 0..3 {
        let value = format!("value {number}");
        companion.put_record("first", &value).await?;
        let page = companion.get("/v1/data/profiles").await?;
        let version = page["records"][0]["version"]
            .as_str()
            .context("no version")?;
        let clock = version.split('@').next().context("no clock")?;
        assert_eq!(
            clock,
            format!("{ahead}.{}", number + 1),
            "later than what was"
        );
        version.clone_into(&mut last);
    }
    let read = companion
        .call(Method::GET, "/v1/data/profiles/first", vec![])
        .await?;
    let tag = read
        .headers()
        .get("etag")
        .context("no tag")?
        .to_str()?
        .to_owned();
    assert_eq!(tag.trim_matches('"'), last);
    assert_eq!(read.text().await?, "value 2");
    let health: Value = companion.get("/readyz").await?;
    assert_eq!(health["ready"], true);
    Ok(())
}
