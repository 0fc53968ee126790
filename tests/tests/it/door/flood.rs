//! Many connections that cost their sender little.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::redis::Redis;

use super::{ELSEWHERE, Honest, connect};

/// The head of a large report, and the first byte of its body.
const SLOW_BODY: &[u8] =
    b"POST /v1/reports HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000000\r\n\r\n{";

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_of_strangers_are_answered_at_once_and_hold_nothing() -> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "s3cret")
        .start()
        .await?;
    let mut honest = Honest::new(&companion, Some("s3cret"))?;
    honest.goes_on().await?;
    let mut slow = Vec::new();
    for number in 0..1_200 {
        slow.push(connect(ELSEWHERE, companion.port, SLOW_BODY).await?);
        if number % 100 == 0 {
            honest.goes_on().await?;
        }
    }
    honest.goes_on().await?;
    // They have their answer although their bodies never end.
    for stream in slow.iter_mut().take(50) {
        let mut head = vec![0; 12];
        let read = timeout(PATIENCE, stream.read_exact(&mut head)).await;
        read.context("no answer")??;
        ensure!(head == b"HTTP/1.1 401", "{head:?}");
    }
    honest.goes_on().await?;
    honest
        .counts("unitring_companion_requests_shed_total 0")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_of_those_who_may_hold_no_place_either() -> Result<()> {
    // Without a token all clients at one address are the same.
    let companion = Settings::default().start().await?;
    let mut honest = Honest::new(&companion, None)?;
    let mut slow = Vec::new();
    for number in 0..1_200 {
        slow.push(connect(Ipv4Addr::LOCALHOST, companion.port, SLOW_BODY).await?);
        if number % 100 == 0 {
            honest.goes_on().await?;
        }
    }
    honest.goes_on().await?;
    honest
        .counts("unitring_companion_requests_shed_total 0")
        .await?;
    // And they end.
    let mut text = String::new();
    let first = slow.first_mut().context("none")?;
    let read = timeout(PATIENCE, first.read_to_string(&mut text)).await;
    read.context("it goes on for ever")??;
    ensure!(text.starts_with("HTTP/1.1 408"), "{text:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_make_room_and_slow_heads_end() -> Result<()> {
    let companion = Settings::default().open_files(1024).start().await?;
    let mut honest = Honest::new(&companion, None)?;
    honest.goes_on().await?;
    let mut silent = Vec::new();
    for number in 0..1_100 {
        let bytes: &[u8] = if number % 2 == 0 {
            b""
        } else {
            b"GET /v1/serv"
        };
        silent.push(connect(Ipv4Addr::LOCALHOST, companion.port, bytes).await?);
        if number % 100 == 0 {
            honest.goes_on().await?;
        }
    }
    // Also a new connection, of a client that was not there before.
    Honest::new(&companion, None)?.goes_on().await?;
    honest.goes_on().await?;
    let displaced = honest
        .metric("unitring_companion_connections_displaced_total")
        .await?;
    ensure!(displaced >= 500.0, "{displaced}");
    let log = companion.log();
    ensure!(log.contains("the quietest connection is closed"), "{log}");
    ensure!(
        log.contains("the limit of open files (ulimit -n) is low"),
        "{log}"
    );
    honest
        .counts("unitring_companion_accepts_failed_total 0")
        .await?;
    // The last one is among the connections that stayed, and has no more time than others.
    let last = silent.last_mut().context("none")?;
    let read = timeout(PATIENCE, last.read(&mut [0; 8])).await;
    let is_over = match read.context("it stays open")? {
        Ok(bytes) => bytes == 0,
        // The companion did not read what the client had sent.
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    ensure!(is_over);
    honest.goes_on().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_leaves_the_others_half_of_the_connections() -> Result<()> {
    let companion = Settings::default().open_files(1024).start().await?;
    // One that has done nothing yet, and would be the first to go.
    let quiet = connect(
        Ipv4Addr::LOCALHOST,
        companion.port,
        b"GET /healthz HTTP/1.1\r\n",
    )
    .await?;
    let mut flood = Vec::new();
    for _ in 0..1_000 {
        flood.push(connect(ELSEWHERE, companion.port, b"").await?);
    }
    let mut quiet = quiet;
    tokio::io::AsyncWriteExt::write_all(&mut quiet, b"host: 127.0.0.1\r\n\r\n").await?;
    let mut head = vec![0; 12];
    let read = timeout(PATIENCE, quiet.read_exact(&mut head)).await;
    read.context("no answer")??;
    ensure!(head == b"HTTP/1.1 200", "{head:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_for_endpoints_make_room_too() -> Result<()> {
    let companion = Settings::default().open_files(1024).start().await?;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(connect(ELSEWHERE, companion.xds_port, b"PRI * HTTP/2.0\r\n").await?);
    }
    let names = super::keeps::endpoints(&companion, &["orders".to_owned()]).await?;
    ensure!(names == 1, "{names}");
    let honest = Honest::new(&companion, None)?;
    ensure!(
        honest
            .metric("unitring_companion_connections_displaced_total")
            .await?
            > 0.0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_expires_while_connections_are_turned_away_whichever_companion_leads() -> Result<()>
{
    let redis = Redis::start().await?;
    let leader = Settings::on_redis(&redis).start().await?;
    until("the first to lead", async || {
        ensure!(leader.metric("unitring_companion_leader").await? == 1.0);
        Ok(())
    })
    .await?;
    let follower = Settings::on_redis(&redis).open_files(1024).start().await?;
    let lives = async |id: &str| {
        let shown = leader.get("/v1/services/orders/instances").await?;
        anyhow::Ok(shown.to_string().contains(&format!("\"{id}\"")))
    };
    let register = async |id: &str| {
        let path = format!("/v1/services/orders/instances/{id}");
        let body = br#"{"ttl": "500ms"}"#.to_vec();
        let status = leader.call(Method::PUT, &path, body).await?.status();
        ensure!(status.is_success(), "{status}");
        Ok(())
    };
    // Until its grace after the start is over, the leader lets nothing expire.
    register("10.0.0.1:1").await?;
    until("the first instance to expire", async || {
        ensure!(!lives("10.0.0.1:1").await?);
        Ok(())
    })
    .await?;
    let mut flood = Vec::new();
    for _ in 0..700 {
        flood.push(connect(ELSEWHERE, follower.port, b"").await?);
    }
    until("the unit to hear of it", async || {
        let held = redis.cli(&["EXISTS", "unitring:{local}:expiry-held"])?;
        ensure!(held.trim() == "1", "{held}");
        Ok(())
    })
    .await?;
    register("10.0.0.1:2").await?;
    // Twice as long as the leader took for the first, and it looks every half second.
    tokio::time::sleep(Duration::from_secs(4)).await;
    ensure!(lives("10.0.0.1:2").await?);
    drop(flood);
    until("it to expire once nobody is turned away", async || {
        ensure!(!lives("10.0.0.1:2").await?);
        Ok(())
    })
    .await
}
