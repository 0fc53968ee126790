//! The harness itself.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use unitring_tests::deadline::until;
use unitring_tests::envoy::send;
use unitring_tests::instance::Instance;
use unitring_tests::process::Process;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::redis::Redis;

#[tokio::test]
async fn a_redis_that_was_killed_has_what_it_acknowledged() -> Result<()> {
    let mut redis = Redis::start().await?;
    assert_eq!(command(&redis, "SET key value").await?, "+OK");
    redis.kill()?;
    redis.restart().await?;
    assert_eq!(command(&redis, "GET key").await?, "$5\r\nvalue");
    Ok(())
}

#[tokio::test]
async fn a_rabbitmq_that_was_killed_starts_again() -> Result<()> {
    let mut rabbit = Rabbit::start().await?;
    rabbit.kill()?;
    rabbit.restart().await
}

#[tokio::test]
async fn an_instance_answers_as_it_is_asked_to() -> Result<()> {
    let mut instance = Instance::start("a").await?;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://{}{path}", instance.address());
    let answer = send(
        client
            .post(url("/x?status=503"))
            .header("k", "v")
            .body("abc"),
    )
    .await?;
    assert_eq!((answer.status, answer.instance.as_str()), (503, "a"));
    assert_eq!(answer.body["path"], "/x");
    assert_eq!(answer.body["headers"]["k"][0], "v");
    assert_eq!(answer.body["body_bytes"], 3);
    assert!(send(client.get(url("/?reset=1"))).await.is_err());
    instance.kill()?;
    instance.restart().await
}

#[tokio::test]
async fn what_a_process_started_ends_with_it() -> Result<()> {
    let folder = TempDir::new()?;
    let pid = folder.path().join("pid");
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("sleep 600 & echo $! >{}; wait", pid.display()));
    let process = Process::start("sh", &mut command, folder.path())?;
    let child = until("the child's id", async || {
        Ok(fs::read_to_string(&pid)?.trim().parse::<u32>()?)
    })
    .await?;
    drop(process);
    until("the child to be gone", async || {
        // A zombie has no command line.
        let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        ensure!(line.is_empty(), "it runs");
        Ok(())
    })
    .await
}

async fn command(redis: &Redis, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).await?;
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await?;
    let mut answer = vec![0; 1024];
    let length = stream.read(&mut answer).await?;
    answer.truncate(length);
    Ok(String::from_utf8(answer)?.trim_end().to_owned())
}
