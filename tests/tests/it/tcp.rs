//! TCP services, with the shipped `tcp.yaml`: a connection is placed, counted and bounded as a request is, and its bytes
//! arrive as they were sent.

mod ends;
mod ftp;
mod keys;
mod protocols;
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use unitring_tests::config::{EnvoyConfig, endpoints_at};
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::gauges::has_in_flight;
use unitring_tests::on_both_shells;
use unitring_tests::programs;
use unitring_tests::shell::Shell;
use unitring_tests::tcp::{Connection, TcpSite, client, plain};

/// Waits for three rounds of a cluster's health checks in a row of which none fails: its servers' answers are what the
/// check expects. On a busy machine one may come too late.
async fn checks_pass(envoy: &Envoy, cluster: &str, servers: u64) -> Result<()> {
    let count = async |name| {
        let name = format!("cluster.{cluster}.health_check.{name}");
        envoy.stat(&name).await
    };
    let mut failed = count("failure").await?;
    let mut enough = count("attempt").await? + 3 * servers;
    until("three rounds of checks without a failure", async || {
        let (now, tried) = (count("failure").await?, count("attempt").await?);
        if now > failed {
            (failed, enough) = (now, tried + 3 * servers);
        }
        ensure!(tried >= enough, "{tried} of {enough}, {failed} have failed");
        Ok(())
    })
    .await
}

const STATS: &str = "wasmcustom.unitring.orders";

/// How many of these connections each instance has.
fn shares(held: &[Connection]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for connection in held {
        *shares.entry(connection.instance.as_str()).or_insert(0) += 1;
    }
    shares
}

on_both_shells! {
    a_client_comes_back_to_the_instance_that_locate_names,
    a_client_is_where_tcp_proxy_alone_has_it_by_its_address,
    connections_of_one_client_overflow_within_the_bound,
    a_client_beyond_max_in_flight_is_ended_at_once,
    an_instance_that_dies_costs_no_new_client_anything_and_the_unit_hears_of_it,
    status_and_loads_show_connections_as_they_show_requests,
}

async fn a_client_comes_back_to_the_instance_that_locate_names(shell: Shell) -> Result<()> {
    let site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    let mut used = BTreeSet::new();
    // With 24 clients, by its port one instance of four has none of them once in 200 starts.
    for number in 0..200 {
        if number >= 24 && used.len() == 4 {
            break;
        }
        let client = client(number);
        let instance = site.open(client, "echo").await?.instance;
        for _ in 0..3 {
            let again = site.open(client, "echo").await?;
            ensure!(
                again.instance == instance,
                "{client}: {instance}, {again:?}"
            );
        }
        let owner = site.companion.owner_of(&client.to_string()).await?;
        ensure!(
            site.address_of(&instance)? == owner,
            "{client}: {instance}, {owner}"
        );
        used.insert(instance);
    }
    ensure!(used.len() == 4, "{used:?} for 200 clients");
    // The shipped file wires the filter as it should be; of the native module nothing can be wired wrongly.
    let wrong = site.envoy.stats(&format!("{STATS}.wiring")).await?;
    ensure!(wrong.values().all(|count| *count == 0), "{wrong:?}");
    Ok(())
}

async fn a_client_is_where_tcp_proxy_alone_has_it_by_its_address(shell: Shell) -> Result<()> {
    let site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    let ports: Vec<u16> = site
        .instances
        .iter()
        .map(|instance| instance.port)
        .collect();
    let shipped = EnvoyConfig::shipped("tcp.yaml")?.endpoints("orders", endpoints_at(&ports))?;
    let alone = Envoy::start(&plain(shipped)?).await?;
    alone.has_healthy(ports.len()).await?;
    for number in 0..100 {
        let placed = site.open(client(number), "echo").await?.instance;
        let hashed = Connection::open(alone.port, client(number), "echo")
            .await?
            .instance;
        ensure!(
            placed == hashed,
            "{}: {placed}, alone {hashed}",
            client(number)
        );
    }
    Ok(())
}

async fn connections_of_one_client_overflow_within_the_bound(shell: Shell) -> Result<()> {
    let load = json!({"balance_factor": 125, "min_capacity": 4, "scope": "process"});
    let site = TcpSite::start_in(shell, 1, &[], |config| config.setting("load", load)).await?;
    let one = client(7);
    let held = try_join_all((0..8).map(|_| site.open(one, "echo"))).await?;
    let shares = shares(&held);
    // ceil(1.25 · 8 / 4) is less than the least capacity of 4.
    ensure!(shares.values().all(|count| *count <= 4), "{shares:?}");
    site.has_in_flight(8).await?;
    drop(held);
    site.has_in_flight(0).await
}

async fn a_client_beyond_max_in_flight_is_ended_at_once(shell: Shell) -> Result<()> {
    let load = json!({"max_in_flight": 2, "scope": "process"});
    let site = TcpSite::start_in(shell, 1, &[], |config| config.setting("load", load)).await?;
    let held = try_join_all((0..8).map(|number| site.open(client(number), "echo"))).await?;
    let shares = shares(&held);
    ensure!(shares.values().all(|count| *count == 2), "{shares:?}");
    // Not a byte comes, and the end does.
    let mut refused = unitring_tests::tcp::connect(site.envoy.port, client(9)).await?;
    let mut came = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut refused, &mut came).await?;
    ensure!(came.is_empty(), "{came:?}");
    // There is room again as soon as a client leaves.
    drop(held);
    site.has_in_flight(0).await?;
    site.open(client(9), "echo")
        .await?
        .echo(b"there is room")
        .await
}

async fn an_instance_that_dies_costs_no_new_client_anything_and_the_unit_hears_of_it(
    shell: Shell,
) -> Result<()> {
    // Once the dead instance is ejected, Envoy's fill moves keys of the others, too; this fill does not.
    let fixed = |config: EnvoyConfig| config.setting("ring.fill", json!("fixed"));
    let mut site = TcpSite::start_in(shell, 1, &[], fixed).await?;
    let all: Vec<_> = (0..30).map(client).collect();
    let mut owners = BTreeMap::new();
    for &client in &all {
        owners.insert(client, site.open(client, "echo").await?.instance);
    }
    let mut others = Vec::new();
    // Fewer than an instance may always have: with all of them at one, its next client would go elsewhere.
    let elsewhere = all.iter().filter(|client| owners[*client] != "b");
    for &client in elsewhere.take(12) {
        others.push(site.open(client, "echo").await?);
    }
    let dead = site.instance("b")?.address();
    site.instance("b")?.kill()?;
    for &client in &all {
        let mut served = site.open(client, "echo").await?;
        served.echo(b"served").await?;
        ensure!(served.instance != "b", "the dead answer");
        // A client of another instance stays there.
        let owner = &owners[&client];
        ensure!(
            owner == "b" || *owner == served.instance,
            "{client} was at {owner}: {served:?}"
        );
    }
    for other in &mut others {
        other.echo(b"still open").await?;
    }
    // By its port few of them may belong to it, and an ejection needs a row of failures.
    for &client in all.iter().cycle().take(3 * all.len()) {
        site.open(client, "echo").await?;
    }
    site.companion.tells("ejected", &dead, "").await?;
    site.instance("b")?.restart().await?;
    until("all to be back where they were", async || {
        for &client in &all {
            let now = site.open(client, "echo").await?.instance;
            ensure!(now == owners[&client], "{client}: {now}");
        }
        Ok(())
    })
    .await
}

async fn status_and_loads_show_connections_as_they_show_requests(shell: Shell) -> Result<()> {
    let site = TcpSite::start_in(shell, 1, &[], Ok).await?;
    let held = try_join_all((0..12).map(|number| site.open(client(number), "echo"))).await?;
    let shares = shares(&held);
    until("the companion to have the loads", async || {
        let service = site.companion.get("/v1/services/orders").await?;
        for instance in &site.instances {
            let all = service["instances"].as_array().context("none")?;
            let address = json!(instance.address());
            let load = all
                .iter()
                .find(|one| one["address"] == address)
                .context("not there")?;
            let expected = shares.get(instance.id.as_str()).copied().unwrap_or(0);
            ensure!(load["in_flight"] == json!(expected), "{load}");
        }
        let (code, text) = site.companion.ask(&["status"])?;
        ensure!(code && text.starts_with("status     healthy"), "{text}");
        let row = |instance: &&unitring_tests::tcp::TcpInstance| {
            text.lines()
                .any(|line| line.starts_with(&instance.address()) && line.contains(" ok "))
        };
        ensure!(
            site.instances.iter().all(|instance| row(&instance)),
            "{text}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_vm_that_dies_ends_the_connections_of_its_worker_and_leaves_no_count() -> Result<()> {
    let fatal = unitring_tests::ports::free()?;
    let filter = programs::trapping_filter()?;
    let site = TcpSite::start_with(2, &[], |config| {
        config.filter(&filter)?.balanced()?.edit(|bootstrap| {
            // A second way in, whose connections kill the VM that takes them.
            let listeners = &mut bootstrap["static_resources"]["listeners"];
            let mut deadly = listeners[0].clone();
            deadly["name"] = json!("deadly");
            deadly["address"]["socket_address"]["port_value"] = json!(fatal);
            let tunneling =
                &mut deadly["filter_chains"][0]["filters"][0]["typed_config"]["tunneling_config"];
            let header = json!({"header": {"key": "x-trap", "value": "taken"}});
            let headers = tunneling["headers_to_add"].as_array_mut();
            headers.context("no headers")?.push(header);
            listeners.as_array_mut().context("none")?.push(deadly);
            Ok(())
        })
    })
    .await?;
    let mut held = try_join_all((0..30).map(|number| site.open(client(number), "echo"))).await?;
    has_in_flight(&site.envoy, 30).await?;
    ensure!(
        Connection::open(fatal, client(99), "echo").await.is_err(),
        "it was served"
    );
    // The connections of one worker end, those of the other go on.
    let mut ended = 0;
    for connection in &mut held {
        ended += usize::from(connection.echo(b"?").await.is_err());
    }
    ensure!((1..30).contains(&ended), "{ended} of 30 have ended");
    has_in_flight(&site.envoy, 30 - u64::try_from(ended)?).await?;
    let mut again = try_join_all((0..30).map(|number| site.open(client(number), "echo"))).await?;
    for connection in &mut again {
        connection.echo(b"served by the next VM").await?;
    }
    drop((held, again));
    has_in_flight(&site.envoy, 0).await
}
