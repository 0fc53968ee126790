//! However a connection ends, its other side hears of it, and nothing stays in flight.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::tcp::{Connection, TcpSite, client, connect};

use super::has_in_flight;

const CLIENTS: u16 = 20;

async fn open_all(site: &TcpSite, purpose: &str) -> Result<Vec<Connection>> {
    try_join_all((0..CLIENTS).map(|number| site.open(client(number), purpose))).await
}

/// Waits until the instances have no connection left.
async fn instances_are_free(site: &TcpSite) -> Result<()> {
    until("the instances to be free", async || {
        for instance in site.instances.iter() {
            let open = instance.connections().await?.open;
            ensure!(open == 0, "{} has {open}", instance.id);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nothing_stays_in_flight_after_any_kind_of_end() -> Result<()> {
    let mut site = TcpSite::start().await?;

    // Clients close.
    let held = open_all(&site, "echo").await?;
    has_in_flight(&site, CLIENTS.into()).await?;
    drop(held);
    has_in_flight(&site, 0).await?;
    instances_are_free(&site).await?;

    // Clients reset.
    let held = open_all(&site, "echo").await?;
    for connection in held {
        connection.stream.into_inner().set_zero_linger()?;
    }
    has_in_flight(&site, 0).await?;
    instances_are_free(&site).await?;

    // Clients end their half and read what is left.
    for connection in &mut open_all(&site, "take").await? {
        connection.stream.write_all(b"seven b").await?;
        connection.stream.shutdown().await?;
        ensure!(connection.rest().await? == b"7\n");
    }
    has_in_flight(&site, 0).await?;

    // Instances close, and by a reset, which arrives as an end.
    for purpose in ["leave", "reset"] {
        for connection in &mut open_all(&site, purpose).await? {
            ensure!(connection.rest().await?.is_empty(), "{purpose}");
        }
        has_in_flight(&site, 0).await?;
    }

    // An instance ends its half first: what the client then still sends arrives.
    for connection in &mut open_all(&site, "say 100000").await? {
        ensure!(connection.rest().await?.len() == 100_000);
        connection.stream.write_all(b"thank you").await?;
        connection.stream.shutdown().await?;
    }
    has_in_flight(&site, 0).await?;
    instances_are_free(&site).await?;

    // Clients that leave before they are greeted.
    for number in 0..CLIENTS {
        drop(connect(site.envoy.port, client(number)).await?);
    }
    has_in_flight(&site, 0).await?;

    // Instances die.
    let mut held = open_all(&site, "echo").await?;
    for instance in &mut site.instances {
        instance.kill()?;
    }
    for connection in &mut held {
        // How a killed process ends its connections depends on what it had not read.
        drop(connection.rest().await);
    }
    has_in_flight(&site, 0).await
}

#[tokio::test]
async fn a_reset_of_the_client_reaches_the_instance_as_an_end() -> Result<()> {
    let site = TcpSite::start().await?;
    let connection = site.open(client(1), "flood").await?;
    has_in_flight(&site, 1).await?;
    connection.stream.into_inner().set_zero_linger()?;
    // The instance's next write fails.
    has_in_flight(&site, 0).await?;
    instances_are_free(&site).await
}

#[tokio::test]
async fn a_client_that_has_nowhere_to_go_is_ended_at_once() -> Result<()> {
    let mut site = TcpSite::start().await?;
    for instance in &mut site.instances {
        instance.kill()?;
    }
    for number in 0..8 {
        let mut stream = connect(site.envoy.port, client(number)).await?;
        let mut came = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut came)).await??;
        ensure!(came.is_empty(), "{came:?}");
    }
    has_in_flight(&site, 0).await?;
    for instance in &mut site.instances {
        instance.restart().await?;
    }
    until("clients to be served again", async || {
        timeout(Duration::from_secs(5), site.open(client(1), "echo"))
            .await??
            .echo(b"x")
            .await
    })
    .await
}
