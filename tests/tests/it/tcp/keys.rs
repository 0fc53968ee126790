//! Other keys than the client's address, and that address at the instance: the parts of a configuration that
//! `docs/tcp.md` shows, put into the shipped `tcp.yaml`.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use unitring_tests::certificates::Certificates;
use unitring_tests::companion::Settings;
use unitring_tests::config::{EnvoyConfig, endpoints_at};
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::page_part::with;
use unitring_tests::process::Process;
use unitring_tests::tcp::{Connection, TcpSite, client, connect};
use unitring_tests::ports;

use super::has_in_flight;

/// The address of the instance to which this key belongs.
async fn owner(site: &TcpSite, key: &str) -> Result<String> {
    until("the companion to know the service", async || {
        let located = site.located(key).await?;
        let owner = located["owner"]["address"].as_str().map(str::to_owned);
        owner.context(located)
    })
    .await
}

#[tokio::test]
async fn the_key_can_be_the_client_that_a_balancer_tells_by_the_proxy_protocol() -> Result<()> {
    let site = TcpSite::start_with(1, &[], |config| with(config, "tcp.md", "proxy-in")).await?;
    let mut used = BTreeSet::new();
    for number in 0..16 {
        let line = format!("PROXY TCP4 10.1.2.{number} 10.0.0.1 40000 443\r\n");
        let expected = owner(&site, &format!("10.1.2.{number}")).await?;
        for through in 0..2 {
            let balancer = client(through);
            let opened = Connection::open_with(site.envoy.port, balancer, &line, "echo").await?;
            let instance = site.instances.iter().find(|one| one.id == opened.instance);
            let address = instance.context("none")?.address();
            ensure!(address == expected, "{line}: {address}, not {expected}");
            used.insert(address);
        }
    }
    ensure!(used.len() > 2, "{used:?}");
    // Nobody is served who does not say it.
    let mut silent = connect(site.envoy.port, client(1)).await?;
    silent.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    let mut came = Vec::new();
    drop(silent.read_to_end(&mut came).await);
    ensure!(came.is_empty(), "{came:?}");
    Ok(())
}

#[tokio::test]
async fn instances_can_be_told_the_clients_address_by_the_proxy_protocol() -> Result<()> {
    let site =
        TcpSite::start_with(1, &["proxy"], |config| with(config, "tcp.md", "proxy-out")).await?;
    let mut held = Vec::new();
    for number in 0..40 {
        let mut opened = site.open(client(number), "echo").await?;
        let own = opened.stream.get_ref().local_addr()?.to_string();
        ensure!(
            opened.seen_from == own,
            "{own} is seen as {}",
            opened.seen_from
        );
        opened.echo(b"and every byte after that line").await?;
        held.push(opened);
    }
    has_in_flight(&site, 40).await?;
    // Each has a connection of its own inside Envoy, which ends with it.
    drop(held);
    has_in_flight(&site, 0).await?;
    until("no connection to be left inside Envoy", async || {
        let left = site.envoy.stat("cluster.tunnel.upstream_cx_active").await?;
        ensure!(left == 0, "{left}");
        Ok(())
    })
    .await?;
    // A dead instance costs nobody anything here, too.
    let mut site = site;
    site.instance("a")?.kill()?;
    let all = (0..40).map(|number| site.open(client(number), "echo"));
    try_join_all(all).await.map(drop)
}

#[tokio::test]
async fn the_address_that_a_balancer_tells_is_passed_on() -> Result<()> {
    let both = |config| with(with(config, "tcp.md", "proxy-in")?, "tcp.md", "proxy-out");
    let site = TcpSite::start_with(1, &["proxy"], both).await?;
    let line = "PROXY TCP4 10.1.2.3 10.0.0.1 40000 443\r\n";
    let opened = Connection::open_with(site.envoy.port, Ipv4Addr::LOCALHOST, line, "echo").await?;
    ensure!(opened.seen_from == "10.1.2.3:40000", "{opened:?}");
    Ok(())
}

/// A TLS server that serves the file `name`, which has its own name.
async fn tls_server(
    id: &str,
    folder: &TempDir,
    certificates: &Certificates,
) -> Result<(u16, Process)> {
    let files = folder.path().join(id);
    fs::create_dir(&files)?;
    fs::write(files.join("name"), format!("{id}\n"))?;
    ports::with_fresh_ports(async || {
        let port = ports::free()?;
        let mut command = Command::new("openssl");
        command
            .args([
                "s_server",
                "-quiet",
                "-WWW",
                "-accept",
                &format!("127.0.0.1:{port}"),
            ])
            .args(["-cert", &certificates.path("server.pem")])
            .args(["-key", &certificates.path("server.key")])
            .current_dir(&files);
        let mut process = Process::start(&format!("tls-{id}"), &mut command, folder.path())?;
        process
            .ready(async || {
                TcpStream::connect(("127.0.0.1", port)).await?;
                Ok(())
            })
            .await?;
        Ok((port, process))
    })
    .await
}

#[tokio::test]
async fn the_key_can_be_the_name_that_a_tls_client_asks_for() -> Result<()> {
    let (folder, certificates) = (
        TempDir::with_prefix("unitring-sni-")?,
        Certificates::make()?,
    );
    let (mut servers, mut ports) = (Vec::new(), Vec::new());
    for id in ["a", "b", "c"] {
        let (port, process) = tls_server(id, &folder, &certificates).await?;
        servers.push(process);
        ports.push(port);
    }
    let companion = Settings::default().start().await?;
    let config = EnvoyConfig::shipped("tcp.yaml")?
        .endpoints("orders", endpoints_at(&ports))?
        .companion(&companion)?;
    let envoy = Envoy::start(&with(config, "tcp.md", "sni")?).await?;
    envoy.steers_to(ports.len()).await?;
    let mut used = BTreeSet::new();
    for number in 0..10 {
        let name = format!("tenant-{number}.example");
        let located = until("the companion to know the service", async || {
            let located = companion
                .get(&format!("/v1/services/orders/locate?key={name}"))
                .await?;
            let owner = located["owner"]["address"].as_str().map(str::to_owned);
            owner.context(located)
        })
        .await?;
        for from in 0..2 {
            let output = tokio::process::Command::new("curl")
                .args([
                    "--silent",
                    "--show-error",
                    "--insecure",
                    "--max-time",
                    "100",
                ])
                .args(["--interface", &client(from).to_string()])
                .args(["--connect-to", &format!("::127.0.0.1:{}", envoy.port)])
                .arg(format!("https://{name}/name"))
                .output()
                .await?;
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let place = ["a", "b", "c"].iter().position(|id| *id == said);
            let port = ports
                .get(place.with_context(|| format!("{output:?}"))?)
                .context("none")?;
            ensure!(
                located == format!("127.0.0.1:{port}"),
                "{name}: {said}, and {located}"
            );
            used.insert(said);
        }
    }
    ensure!(used.len() > 1, "{used:?}");
    Ok(())
}
