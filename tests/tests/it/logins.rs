//! Passwords that change while the companion runs: it reads them again on SIGHUP, from its file of settings.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use reqwest::Method;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;

/// Sets the password of Redis; connections that stand are closed.
fn set_password(redis: &Redis, before: &str, password: &str) -> Result<()> {
    let with = |arguments: &[&str]| redis.cli(&[&["-a", before], arguments].concat());
    with(&["CONFIG", "SET", "requirepass", password])?;
    redis.cli(&[
        "-a", password, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes",
    ])?;
    Ok(())
}

async fn put(companion: &Companion) -> Result<u16> {
    let path = "/v1/data/d/k";
    let put = companion.call(Method::PUT, path, b"v".to_vec()).await?;
    Ok(put.status().as_u16())
}

async fn puts(companion: &Companion, expected: u16) -> Result<()> {
    until(&format!("a write to get {expected}"), async || {
        let status = put(companion).await?;
        ensure!(
            status / 100 == expected / 100,
            "{status}: {}",
            companion.log()
        );
        Ok(())
    })
    .await
}

async fn says(companion: &Companion, text: &str, times: usize) -> Result<()> {
    until(text, async || {
        let log = companion.log();
        ensure!(log.matches(text).count() == times, "{log}");
        Ok(())
    })
    .await
}

fn write(file: &Path, redis: &Redis, password: &str) -> Result<()> {
    let url = format!("redis://:{password}@127.0.0.1:{}", redis.port);
    let wait = "wait_replicas = 0";
    fs::write(file, format!("[store]\nredis_url = \"{url}\"\n{wait}\n"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_of_redis_is_read_again() -> Result<()> {
    let redis = Redis::start().await?;
    redis.cli(&["CONFIG", "SET", "requirepass", "one"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("unitring.toml");
    write(&file, &redis, "one")?;
    let companion = Settings::default().file(&file).start().await?;
    puts(&companion, 201).await?;

    set_password(&redis, "one", "two")?;
    puts(&companion, 503).await?;
    // However many requests there are, the log says it once.
    for _ in 0..20 {
        put(&companion).await?;
    }
    says(&companion, "Redis refuses the login", 1).await?;
    // The same settings again change nothing.
    companion.reload()?;
    says(&companion, "logins are read again", 1).await?;
    puts(&companion, 503).await?;
    write(&file, &redis, "two")?;
    companion.reload()?;
    puts(&companion, 200).await?;
    says(&companion, "Redis takes the login again", 1).await?;
    says(&companion, "Redis refuses the login", 1).await?;
    ensure!(!companion.log().contains("need a restart"));

    // Another server needs a restart: the login there is not used here.
    let other = Redis::start().await?;
    write(&file, &other, "three")?;
    companion.reload()?;
    says(&companion, "need a restart", 1).await?;
    redis.cli(&[
        "-a", "two", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes",
    ])?;
    puts(&companion, 200).await?;
    assert_eq!(other.cli(&["DBSIZE"])?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_for_replicas_use_the_new_password_too() -> Result<()> {
    let redis = Redis::start().await?;
    let of = format!("replicaof 127.0.0.1 {}", redis.port);
    let replica = Redis::start_with(&[&of]).await?;
    // It has no password, and gets in before one is wanted.
    replica.follows().await?;
    redis.cli(&["CONFIG", "SET", "requirepass", "one"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("unitring.toml");
    let write = |password: &str| {
        let url = format!("redis://:{password}@127.0.0.1:{}", redis.port);
        fs::write(
            &file,
            format!("[store]\nredis_url = \"{url}\"\nwait_replicas = 1\n"),
        )
    };
    write("one")?;
    let companion = Settings::default().file(&file).start().await?;
    puts(&companion, 201).await?;
    set_password(&redis, "one", "two")?;
    puts(&companion, 503).await?;
    write("two")?;
    companion.reload()?;
    puts(&companion, 200).await?;
    drop(replica);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_of_a_broker_is_read_again() -> Result<()> {
    let rabbit = Rabbit::start_with(&["default_user = app", "default_pass = one"]).await?;
    let redis = Redis::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("unitring.toml");
    let write = |password: &str| {
        let (amqp, port) = (rabbit.port(), redis.port);
        let text = format!(
            "unit = \"east\"\n[store]\nredis_url = \"redis://127.0.0.1:{port}\"\n[sync]\n\
             amqp_url = \"amqp://app:{password}@127.0.0.1:{amqp}/%2f\"\npeers = [\"west\"]\n"
        );
        fs::write(&file, text)
    };
    write("zero")?;
    let companion = Settings::default().file(&file).start().await?;
    let is_up = async || {
        let units = companion.get("/v1/units").await?;
        Ok::<_, anyhow::Error>(units["sync"]["inbox"] == "ok" && units["sync"]["link"] == "ok")
    };
    until("the broker to refuse the login", async || {
        let units = companion.get("/v1/units").await?;
        let link = units["sync"]["inbox"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(link.contains("ACCESS"), "{link}");
        Ok(())
    })
    .await?;
    ensure!(!is_up().await?);
    write("one")?;
    companion.reload()?;
    until("the links to be up", async || {
        ensure!(is_up().await?, "{}", companion.log());
        Ok(())
    })
    .await
}
