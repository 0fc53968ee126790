//! Bytes: all of them arrive, in order, with many connections and with neighbours that stall or end.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use unitring_tests::on_both_shells;
use unitring_tests::page_part::with;
use unitring_tests::process;
use unitring_tests::shell::Shell;
use unitring_tests::tcp::{Connection, TcpSite, all_is_still, client};

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

on_both_shells! {
    what_is_under_way_at_a_half_close_arrives_byte_for_byte,
    an_instance_that_ends_first_loses_nothing_to_clients_that_keep_up,
    fifteen_hundred_connections_are_open_at_once,
}

async fn what_is_under_way_at_a_half_close_arrives_byte_for_byte(shell: Shell) -> Result<()> {
    let site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    let bytes = pattern(ECHOED);
    echoed_to_the_end(site.open(client(1), "echo").await?, &bytes).await?;
    // Several at a time, which share a connection inside Envoy.
    let each = bytes.get(..4 * MIB).context("too few")?;
    let all = (0..8).map(async |number| {
        let connection = site.open(client(number), "echo").await?;
        echoed_to_the_end(connection, each).await
    });
    try_join_all(all).await?;
    site.has_in_flight(0).await
}

/// Reads an instance's bytes until it ends: nothing must be missing.
async fn heard(mut connection: Connection, bytes: usize) -> Result<()> {
    let came = connection.rest().await.context("not to the end")?.len();
    ensure!(came == bytes, "{came} of {bytes} bytes");
    Ok(())
}

async fn an_instance_that_ends_first_loses_nothing_to_clients_that_keep_up(
    shell: Shell,
) -> Result<()> {
    let site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    for bytes in [0, 1, 300_000, MIB, 64 * MIB] {
        let connection = site.open(client(1), &format!("say {bytes}")).await?;
        heard(connection, bytes).await?;
    }
    let all = (0..20).map(async |number| {
        let connection = site
            .open(client(number), &format!("say {}", 2 * MIB))
            .await?;
        heard(connection, 2 * MIB).await
    });
    try_join_all(all).await?;
    site.has_in_flight(0).await
}

#[tokio::test]
async fn by_the_other_tunnel_it_loses_nothing_to_clients_that_do_not_keep_up_either() -> Result<()>
{
    let other = |config| with(config, "tcp.md", "server-ends-first");
    loses_nothing_to_stalled_clients(&TcpSite::start_with(1, &[], other).await?).await
}

#[tokio::test]
async fn by_the_native_module_it_loses_nothing_to_clients_that_do_not_keep_up_either() -> Result<()>
{
    let site = TcpSite::start_in(Shell::Native, 1, &[], Ok).await?;
    loses_nothing_to_stalled_clients(&site).await
}

async fn loses_nothing_to_stalled_clients(site: &TcpSite) -> Result<()> {
    // From a size that fits into the buffers on the way to one that does not.
    let mut stalled = Vec::new();
    for number in 0..40 {
        let bytes = usize::from(number) * 250_000;
        let connection = site.open(client(number), &format!("say {bytes}")).await?;
        stalled.push((connection, bytes));
    }
    all_is_still(&site.envoy).await?;
    // They do not stop others meanwhile.
    heard(site.open(client(50), &format!("say {MIB}")).await?, MIB).await?;
    for (connection, bytes) in stalled {
        heard(connection, bytes).await?;
    }
    site.has_in_flight(0).await
}

async fn fifteen_hundred_connections_are_open_at_once(shell: Shell) -> Result<()> {
    process::open_files(u64::from(MANY) * 2 + 200)?;
    let site = TcpSite::start_in(shell, 2, &[], |config| config.balanced()).await?;
    let mut held = Vec::new();
    for first in (0..MANY).step_by(100) {
        // Three clients, so that by their keys alone no more than three instances had 500 each.
        let some = (first..first + 100).map(|number| site.open(client(number % 3), "echo"));
        held.extend(try_join_all(some).await?);
    }
    site.has_in_flight(MANY.into()).await?;
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
    site.has_in_flight(0).await
}

// By the native module they share nothing.
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
    site.has_in_flight(STALLED.into()).await?;
    all_is_still(&site.envoy).await?;
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
    site.has_in_flight(0).await
}
