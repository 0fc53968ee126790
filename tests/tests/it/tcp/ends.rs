//! Every end of a connection reaches its other side, and nothing stays in flight.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::on_both_shells;
use unitring_tests::shell::Shell;
use unitring_tests::tcp::{Connection, TcpSite, client, connect};

const CLIENTS: u16 = 20;

async fn open_all(site: &TcpSite, purpose: &str) -> Result<Vec<Connection>> {
    try_join_all((0..CLIENTS).map(|number| site.open(client(number), purpose))).await
}

/// Waits until Envoy has taken this many connections since it was started, and none is left.
async fn all_have_ended(site: &TcpSite, taken: u64) -> Result<()> {
    until(&format!("{taken} connections to be taken"), async || {
        let count = site.envoy.stat("tcp.ingress.downstream_cx_total").await?;
        ensure!(count == taken, "{count}");
        Ok(())
    })
    .await?;
    site.has_in_flight(0).await
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

on_both_shells! {
    nothing_stays_in_flight_after_any_kind_of_end,
    a_reset_of_the_client_reaches_the_instance,
    a_client_that_provokes_resets_drives_nobody_else_away,
    a_client_that_has_nowhere_to_go_is_ended_at_once,
}

async fn nothing_stays_in_flight_after_any_kind_of_end(shell: Shell) -> Result<()> {
    let mut site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    let clients = u64::from(CLIENTS);

    // Clients close.
    let held = open_all(&site, "echo").await?;
    site.has_in_flight(clients).await?;
    drop(held);
    all_have_ended(&site, clients).await?;
    instances_are_free(&site).await?;

    // Clients reset.
    for connection in open_all(&site, "echo").await? {
        connection.stream.into_inner().set_zero_linger()?;
    }
    all_have_ended(&site, 2 * clients).await?;
    instances_are_free(&site).await?;

    // Clients end their half and read the rest.
    for connection in &mut open_all(&site, "take").await? {
        connection.stream.write_all(b"seven b").await?;
        connection.stream.shutdown().await?;
        ensure!(connection.rest().await? == b"7\n");
    }
    all_have_ended(&site, 3 * clients).await?;

    // Instances close, and by a reset.
    for connection in &mut open_all(&site, "leave").await? {
        ensure!(connection.rest().await?.is_empty());
    }
    for connection in &mut open_all(&site, "reset").await? {
        let rest = connection.rest().await;
        match shell {
            Shell::Filter => ensure!(rest?.is_empty(), "it arrives as an end"),
            Shell::Native => ensure!(rest.is_err(), "it arrives as it was sent"),
        }
    }
    all_have_ended(&site, 5 * clients).await?;

    // Instances end their half: that ends the whole connection.
    for connection in &mut open_all(&site, "say 100000").await? {
        ensure!(connection.rest().await?.len() == 100_000);
    }
    all_have_ended(&site, 6 * clients).await?;
    instances_are_free(&site).await?;

    // Clients that leave before they are greeted.
    for number in 0..CLIENTS {
        drop(connect(site.envoy.port, client(number)).await?);
    }
    all_have_ended(&site, 7 * clients).await?;

    // Instances die.
    let mut held = open_all(&site, "echo").await?;
    site.has_in_flight(clients).await?;
    for instance in &mut site.instances {
        instance.kill()?;
    }
    for connection in &mut held {
        // How a killed process ends its connections depends on what it had not read.
        drop(connection.rest().await);
    }
    if shell == Shell::Native {
        // Without a tunnel their half stays open until they close it, too.
        drop(held);
    }
    all_have_ended(&site, 8 * clients).await
}

async fn a_reset_of_the_client_reaches_the_instance(shell: Shell) -> Result<()> {
    let mut site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    let mut connection = site.open(client(1), "take").await?;
    connection.stream.write_all(b"some bytes").await?;
    site.has_in_flight(1).await?;
    let id = connection.instance.clone();
    connection.stream.into_inner().set_zero_linger()?;
    site.has_in_flight(0).await?;
    let instance = site.instance(&id)?;
    until("the instance to see it", async || {
        let log = instance.log();
        // The tunnel turns it into an end.
        let seen = match shell {
            Shell::Filter => "take: an end",
            Shell::Native => "take: a reset",
        };
        ensure!(log.contains(seen), "{log}");
        Ok(())
    })
    .await
}

async fn a_client_that_provokes_resets_drives_nobody_else_away(shell: Shell) -> Result<()> {
    let site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    let mut owners = Vec::new();
    for number in 0..CLIENTS {
        owners.push(site.open(client(number), "echo").await?.instance);
    }
    for _ in 0..10 {
        open_all(&site, "reset").await?;
    }
    // Else the bound could keep a client away.
    site.has_in_flight(0).await?;
    for (number, owner) in (0..CLIENTS).zip(&owners) {
        let now = site.open(client(number), "echo").await?.instance;
        ensure!(
            now == *owner,
            "client {number} was at {owner}, and is at {now}"
        );
    }
    let healthy = site.envoy.stat("cluster.orders.membership_healthy").await?;
    ensure!(healthy == 4, "{healthy}");
    Ok(())
}

async fn a_client_that_has_nowhere_to_go_is_ended_at_once(shell: Shell) -> Result<()> {
    let mut site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    for instance in &mut site.instances {
        instance.kill()?;
    }
    for number in 0..8 {
        let mut stream = connect(site.envoy.port, client(number)).await?;
        let mut came = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut came)).await??;
        ensure!(came.is_empty(), "{came:?}");
    }
    site.has_in_flight(0).await?;
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
