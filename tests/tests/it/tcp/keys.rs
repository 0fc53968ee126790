//! Other keys than the client's address, that address at the instance, a log, several services: the parts of a
//! configuration that `docs/tcp.md` shows, put into the shipped `tcp.yaml`.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use unitring_tests::certificates::Certificates;
use unitring_tests::config::{EnvoyConfig, endpoints_at};
use unitring_tests::deadline::until;
use unitring_tests::gauges::has_in_flight;
use unitring_tests::page_part::with;
use unitring_tests::ports;
use unitring_tests::process::Process;
use unitring_tests::shell::Shell;
use unitring_tests::tcp::{Connection, TcpInstance, TcpSite, client, connect, front};

#[tokio::test]
async fn a_log_tells_where_each_connection_went() -> Result<()> {
    let site = TcpSite::start_with(1, &[], |config| with(config, "tcp.md", "log")).await?;
    let mut opened = site.open(client(1), "echo").await?;
    opened.echo(b"0123456789").await?;
    let address = site.address_of(&opened.instance)?;
    drop(opened);
    until("the connection to be logged", async || {
        let log = site.envoy.log();
        let mut lines = log.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        // "echo\n" and ten bytes; the greeting and ten bytes.
        let is_it = |words: &Vec<&str>| {
            matches!(words.as_slice(), [from, to, _, "15", sent, _]
                if *from == client(1).to_string() && *to == address && sent.parse::<u32>().is_ok_and(|sent| sent > 15))
        };
        ensure!(lines.any(|words| is_it(&words)), "{log}");
        Ok(())
    })
    .await
}

/// A second listener, virtual host and cluster for the service `carts`, as the page says.
fn with_carts(config: EnvoyConfig, port: u16, instances: &[u16]) -> Result<EnvoyConfig> {
    let key = json!([{"header": "x-client"}]);
    let services = json!([{"service": "orders", "key": key}, {"service": "carts", "key": key}]);
    let settings = json!({
        "services": services,
        "discovery": {"source": "admin", "cluster": "envoy_admin"},
        "companion": {"cluster": "unitring"},
    });
    let config = config.settings(settings)?.edit(|bootstrap| {
        let resources = &mut bootstrap["static_resources"];
        let mut ingress = resources["listeners"][0].clone();
        ingress["name"] = json!("carts");
        ingress["address"]["socket_address"]["port_value"] = json!(port);
        let proxy = &mut ingress["filter_chains"][0]["filters"][0]["typed_config"];
        proxy["tunneling_config"]["hostname"] = json!("carts:0");
        let listeners = resources["listeners"]
            .as_array_mut()
            .context("no listeners")?;
        listeners.push(ingress);
        let clusters = resources["clusters"]
            .as_array_mut()
            .context("no clusters")?;
        let orders = clusters.iter().find(|cluster| cluster["name"] == "orders");
        let mut carts = orders.context("no orders")?.clone();
        carts["name"] = json!("carts");
        carts["load_assignment"]["cluster_name"] = json!("carts");
        carts["load_assignment"]["endpoints"][0]["lb_endpoints"] = endpoints_at(instances);
        clusters.push(carts);
        Ok(())
    })?;
    config.edit_connections(|manager| {
        let hosts = &mut manager["route_config"]["virtual_hosts"];
        let mut carts = hosts[0].clone();
        carts["name"] = json!("carts");
        carts["domains"] = json!(["carts:0"]);
        carts["routes"][0]["route"]["cluster"] = json!("carts");
        hosts.as_array_mut().context("no hosts")?.push(carts);
        Ok(())
    })
}

#[tokio::test]
async fn several_services_share_the_way_and_nothing_else() -> Result<()> {
    let (mut carts, mut ports) = (Vec::new(), Vec::new());
    for id in ["x", "y"] {
        let instance = TcpInstance::start(id, &[]).await?;
        ports.push(instance.port);
        carts.push(instance);
    }
    let port = ports::free()?;
    let site = TcpSite::start_with(1, &[], |config| with_carts(config, port, &ports)).await?;
    until("both carts to be chosen from", async || {
        let name = "wasmcustom.unitring.carts.instances_eligible";
        let eligible = site.envoy.stat(name).await?;
        ensure!(eligible == 2, "{eligible}");
        Ok(())
    })
    .await?;
    let mut held = Vec::new();
    for number in 0..20 {
        let order = site.open(client(number), "echo").await?;
        let cart = Connection::open(port, client(number), "echo").await?;
        ensure!(
            "abcd".contains(&order.instance) && "xy".contains(&cart.instance),
            "{order:?} {cart:?}"
        );
        held.extend([order, cart]);
    }
    until("each service to have its own", async || {
        for service in ["orders", "carts"] {
            let count = site
                .envoy
                .stat(&format!("wasmcustom.unitring.{service}.in_flight"))
                .await?;
            ensure!(count == 20, "{service}: {count}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_key_can_be_the_client_that_a_balancer_tells_by_the_proxy_protocol() -> Result<()> {
    let site = TcpSite::start_with(1, &[], |config| with(config, "tcp.md", "proxy-in")).await?;
    let mut used = BTreeSet::new();
    for number in 0..32 {
        let line = format!("PROXY TCP4 10.1.2.{number} 10.0.0.1 40000 443\r\n");
        let expected = site.companion.owner_of(&format!("10.1.2.{number}")).await?;
        for through in 0..2 {
            let balancer = client(through);
            let opened = Connection::open_with(site.envoy.port, balancer, &line, "echo").await?;
            let address = site.address_of(&opened.instance)?;
            ensure!(address == expected, "{line}: {address}, not {expected}");
            used.insert(address);
        }
    }
    ensure!(used.len() > 2, "{used:?}");
    // Envoy serves no client that does not send that line.
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
    let all = (0..40).map(async |number| {
        let mut opened = site.open(client(number), "echo").await?;
        let own = opened.stream.get_ref().local_addr()?.to_string();
        ensure!(
            opened.seen_from == own,
            "{own} is seen as {}",
            opened.seen_from
        );
        opened.echo(b"and every byte after that line").await?;
        Ok(opened)
    });
    let held = try_join_all(all).await?;
    has_in_flight(&site.envoy, 40).await?;
    // Each has a connection of its own inside Envoy, which ends with it.
    drop(held);
    has_in_flight(&site.envoy, 0).await?;
    until("no connection to be left inside Envoy", async || {
        let left = site.envoy.stat("cluster.tunnel.upstream_cx_active").await?;
        ensure!(left == 0, "{left}");
        Ok(())
    })
    .await?;
    // A dead instance costs no client anything here, too.
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
        process.listens(([127, 0, 0, 1], port)).await?;
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
    let by_name = |config| with(config, "tcp.md", "sni");
    let (envoy, companion) = front(Shell::Filter, &ports, 1, by_name).await?;
    let mut used = BTreeSet::new();
    for number in 0..10 {
        let name = format!("tenant-{number}.example");
        let located = companion.owner_of(&name).await?;
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
