//! Bytes: all of them, in order, however many connections there are, and whatever their neighbours do.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use unitring_tests::deadline::until;
use unitring_tests::process;
use unitring_tests::tcp::{Connection, TcpSite, client};

use super::has_in_flight;

const MIB: usize = 1024 * 1024;
const ECHOED: usize = 64 * MIB;
const MANY: u16 = 1_500;
const STALLED: u16 = 90;

/// Bytes that repeat at no power of two.
fn pattern(length: usize) -> Vec<u8> {
    (0..251_u8).cycle().take(length).collect()
}

/// Sends all of it, ends this half, and reads until the other end: the same must come back.
async fn echoed_to_the_end(connection: Connection, bytes: &[u8]) -> Result<()> {
    let (mut reading, mut writing) = tokio::io::split(connection.stream);
    let write = async {
        writing.write_all(bytes).await?;
        writing.shutdown().await
    };
    let read = async {
        let mut back = Vec::with_capacity(bytes.len());
        reading.read_to_end(&mut back).await?;
        Ok(back)
    };
    let ((), back) = tokio::try_join!(write, read).context("an echo that breaks")?;
    ensure!(back.len() == bytes.len(), "{} came back", back.len());
    ensure!(back == bytes, "other bytes came back");
    Ok(())
}

#[tokio::test]
async fn what_is_under_way_at_a_half_close_arrives_byte_for_byte() -> Result<()> {
    let site = TcpSite::start().await?;
    let bytes = pattern(ECHOED);
    echoed_to_the_end(site.open(client(1), "echo").await?, &bytes).await?;
    // Several at a time, which share a connection inside Envoy.
    let each = bytes.get(..4 * MIB).context("too few")?;
    let all = (0..8).map(async |number| {
        let connection = site.open(client(number), "echo").await?;
        echoed_to_the_end(connection, each).await
    });
    try_join_all(all).await?;
    has_in_flight(&site, 0).await
}

#[tokio::test]
async fn fifteen_hundred_connections_are_open_at_once() -> Result<()> {
    process::open_files(u64::from(MANY) * 2 + 200)?;
    let site = TcpSite::start_with(2, &[], |config| config.balanced()).await?;
    let mut held = Vec::new();
    for first in (0..MANY).step_by(100) {
        let some = (first..first + 100).map(|number| site.open(client(number), "echo"));
        held.extend(try_join_all(some).await?);
    }
    has_in_flight(&site, MANY.into()).await?;
    for connection in &mut held {
        connection.echo(b"still here").await?;
    }
    let shares = super::shares(&held);
    // ceil(1.25 · 1500 / 4), and what two VMs may add at the same time.
    ensure!(
        shares.len() == 4 && shares.values().all(|count| *count <= 480),
        "{shares:?}"
    );
    let stats = site.envoy.stats("cluster.").await?;
    for name in ["upstream_cx_overflow", "upstream_rq_pending_overflow"] {
        for cluster in ["tunnel", "orders"] {
            let name = format!("cluster.{cluster}.{name}");
            ensure!(stats.get(&name).is_none_or(|count| *count == 0), "{name}");
        }
    }
    drop(held);
    has_in_flight(&site, 0).await
}

#[tokio::test]
async fn ninety_clients_that_do_not_read_harm_no_other() -> Result<()> {
    // One worker, so that all share the same connections inside Envoy.
    let site = TcpSite::start().await?;
    let (mut stalled, mut writers) = (Vec::new(), JoinSet::new());
    for number in 0..STALLED {
        let connection = site.open(client(number), "flood").await?;
        // Neither end reads: its own way is full in both directions.
        let (reading, mut writing) = tokio::io::split(connection.stream);
        stalled.push(reading);
        writers.spawn(async move { while writing.write_all(&[0; MIB]).await.is_ok() {} });
    }
    has_in_flight(&site, STALLED.into()).await?;
    // Until nothing moves any more: each way is full.
    let mut before = 0;
    until("all ways to be full", async || {
        let bytes = site.envoy.stats("cluster.orders.upstream_cx").await?;
        let both = bytes
            .iter()
            .filter(|(name, _)| name.ends_with("x_bytes_total"));
        let sent: u64 = both.map(|(_, bytes)| bytes).sum();
        let is_full = sent == before && sent > 0;
        before = sent;
        ensure!(is_full, "{sent} bytes");
        Ok(())
    })
    .await?;
    let bytes = pattern(4 * MIB);
    for number in STALLED..STALLED + 10 {
        echoed_to_the_end(site.open(client(number), "echo").await?, &bytes).await?;
    }
    ensure!(
        writers.try_join_next().is_none(),
        "the writers are not stalled"
    );
    writers.shutdown().await;
    drop(stalled);
    has_in_flight(&site, 0).await
}
