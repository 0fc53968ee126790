//! Differences of the native module from the filter: panic, retries, requests that wait for a connection, faults,
//! and Envoy's stats of it.

mod faults;
mod settings;
mod waiting;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::{EnvoyConfig, endpoints_of};
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys, send};
use unitring_tests::instance::Instance;
use unitring_tests::page_part::with;
use unitring_tests::shell::Shell;
use unitring_tests::site::Site;

/// The route of the shipped configuration.
fn route(manager: &mut Value) -> Result<&mut Value> {
    let route = "/route_config/virtual_hosts/0/routes/0/route";
    manager.pointer_mut(route).context("no route")
}

/// Without the predicate that tells the module of earlier attempts.
fn without_predicate(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let policy = route(manager)?["retry_policy"].as_object_mut();
        policy.context("no retries")?.remove("retry_host_predicate");
        Ok(())
    })
}

/// Two of four instances are out of order, and nothing but the retries can know.
async fn two_fail(
    change: fn(EnvoyConfig) -> Result<EnvoyConfig>,
    answers: Option<u16>,
) -> Result<()> {
    let mut site = Site::start_in(Shell::Native, 2, |config| change(config.unchecked()?)).await?;
    for id in ["a", "c"] {
        match answers {
            Some(status) => site.instance(id).fail_with(status).await?,
            None => site.instance(id).kill()?,
        }
    }
    let owners = site.envoy.owners(&keys(200)).await?;
    let served: BTreeSet<&str> = owners.values().map(String::as_str).collect();
    ensure!(served == BTreeSet::from(["b", "d"]), "{served:?}");
    ensure!(site.envoy.ours("retries").await? > 0);
    Ok(())
}

#[tokio::test]
async fn two_retries_find_a_living_instance_beyond_two_dead_ones() -> Result<()> {
    two_fail(Ok, None).await
}

#[tokio::test]
async fn two_retries_find_an_instance_that_works_beyond_two_that_answer_503() -> Result<()> {
    two_fail(Ok, Some(503)).await
}

#[tokio::test]
async fn without_the_predicate_retries_go_past_refused_connections_all_the_same() -> Result<()> {
    two_fail(without_predicate, None).await
}

#[tokio::test]
async fn a_client_chooses_no_instance_by_a_forged_attempt_count() -> Result<()> {
    let site = Site::start_in(Shell::Native, 1, Ok).await?;
    let owner = site.envoy.get("ada").await?.instance;
    for forged in ["2", "3", "999999999999999999999", "-1", ""] {
        let request = site.envoy.request("/").header("x-user-id", "ada");
        let answer = send(request.header("x-envoy-attempt-count", forged)).await?;
        ensure!(answer.instance == owner, "{forged}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn where_a_priority_panics_healthy_instances_serve_and_keep_their_keys() -> Result<()> {
    let mut site = Site::start_in(Shell::Native, 2, |config| {
        config.edit_cluster("orders", |orders| {
            let fields = orders.as_object_mut().context("not an object")?;
            fields.remove("outlier_detection");
            Ok(())
        })
    })
    .await?;
    let keys = keys(300);
    let before = site.envoy.owners(&keys).await?;
    for id in ["b", "c", "d"] {
        site.instance(id).kill()?;
    }
    site.envoy.has_healthy(1).await?;
    // RING_HASH would send three of four requests to dead instances.
    until("the workers to know", async || {
        let now = site.envoy.owners(&keys).await?;
        ensure!(now.values().all(|owner| owner == "a"), "{now:?}");
        // Before they know, retries may lead all to the one that lives.
        ensure!(site.envoy.ours("fallback.unnameable").await? > 0);
        ensure!(site.envoy.log().contains("a priority panics"));
        Ok(())
    })
    .await?;
    // Without any healthy instance there is none that a policy can name.
    site.instance("a").kill()?;
    site.envoy.has_healthy(0).await?;
    until("no instance to be named", async || {
        let status = site.envoy.get("ada").await?.status;
        ensure!(status == 503, "{status}");
        Ok(())
    })
    .await?;
    for id in ["a", "b", "c", "d"] {
        site.instance(id).restart().await?;
    }
    site.envoy.steers_to(4).await?;
    site.envoy.has_owners(&before).await
}

#[tokio::test]
async fn with_envoys_own_policy_beneath_it_every_key_is_served_when_all_checks_fail() -> Result<()>
{
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = Shell::Native.config()?.instances(&instances, &[])?;
    let config = with(config, "native.md", "beneath")?
        .endpoints("orders-all", endpoints_of(&instances, &[]))?;
    let envoy = Envoy::start_with_workers(&config, 2).await?;
    envoy.steers_to(4).await?;
    let keys = keys(200);
    let before = envoy.owners(&keys).await?;
    ensure!(envoy.stat("cluster.orders-all.upstream_rq_total").await? == 0);
    // The checks are wrong: every instance works.
    let failing = config.edit_cluster("orders", |orders| {
        let check = orders.pointer_mut("/health_checks/0/http_health_check");
        check.context("no check")?["expected_statuses"] = json!([{"start": 599, "end": 600}]);
        Ok(())
    })?;
    let envoy = Envoy::start_with_workers(&failing, 2).await?;
    envoy.has_healthy(0).await?;
    until("all to be served, each where it was", async || {
        let now = envoy.owners(&keys).await?;
        ensure!(now == before, "{now:?}");
        Ok(())
    })
    .await?;
    ensure!(envoy.stat("cluster.orders.upstream_rq_total").await? == 0);
    Ok(())
}

#[tokio::test]
async fn requests_without_a_key_spread_and_are_counted() -> Result<()> {
    let site = Site::start_in(Shell::Native, 1, Ok).await?;
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let answer = send(site.envoy.request("/")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        seen.insert(answer.instance);
    }
    ensure!(seen.len() == 4, "{seen:?}");
    ensure!(site.envoy.ours("fallback.no_key").await? == 40);
    until("the report to say so", async || {
        let service = site.companion.get("/v1/services/orders").await?;
        let told = service.pointer("/reporters/0/fallbacks");
        ensure!(told == Some(&json!(40)), "{service}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn instances_that_come_and_go_are_told_once_by_each_envoy_and_counts_go_on() -> Result<()> {
    let mut site = Site::start_in(Shell::Native, 2, |config| {
        config.setting("companion.interval", json!("250ms"))
    })
    .await?;
    site.envoy.owners(&keys(100)).await?;
    let address = site.instance("b").address();
    site.instance("b").kill()?;
    let event = site
        .companion
        .tells("ejected", &address, "unhealthy")
        .await?;
    let moved = event["moved"].as_f64().context("no share")?;
    // A quarter of the keys are its own, and with Envoy's fill some others move, too.
    ensure!((0.15..0.6).contains(&moved), "{event}");
    site.instance("b").restart().await?;
    site.companion.tells("recovered", &address, "").await?;
    site.envoy.owners(&keys(100)).await?;
    until("the companion to have all calls", async || {
        let service = site.companion.get("/v1/services/orders").await?;
        let instances = service["instances"].as_array().context("none")?;
        let calls: u64 = instances
            .iter()
            .filter_map(|one| one["calls"].as_u64())
            .sum();
        ensure!(calls == 200, "{service}");
        ensure!(
            service["reporters"]
                .as_array()
                .is_none_or(|all| all.len() == 1),
            "{service}"
        );
        Ok(())
    })
    .await?;
    let told = site
        .companion
        .get("/v1/events?format=json&limit=1000")
        .await?;
    let told = told.as_array().context("not a list")?;
    let kinds = told.iter().filter(|event| event["service"] == "orders");
    ensure!(kinds.count() == 2, "{told:?}");
    Ok(())
}

#[tokio::test]
async fn without_the_companion_requests_are_served_and_it_is_told_of_what_it_missed() -> Result<()>
{
    let mut site = Site::start_in(Shell::Native, 1, |config| {
        config.setting("companion.interval", json!("100ms"))
    })
    .await?;
    until("a report", async || {
        ensure!(site.envoy.ours("report.sent").await? > 0, "none");
        Ok(())
    })
    .await?;
    site.companion.kill()?;
    let address = site.instance("c").address();
    site.instance("c").kill()?;
    until("reports to fail", async || {
        ensure!(site.envoy.ours("report.failed").await? > 5, "none");
        site.envoy.owners(&keys(20)).await?;
        Ok(())
    })
    .await?;
    site.companion.restart().await?;
    site.companion.tells("ejected", &address, "").await?;
    // The companion tells an event before the module has the answer to the report.
    until("the log to say so", async || {
        let log = site.envoy.log();
        ensure!(log.contains("report: works again"), "{log}");
        let warnings = log.matches("wired wrongly: companion_cluster").count();
        ensure!(warnings > 0, "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_the_bootstrap_extension_the_policy_places_and_says_that_it_reports_nothing()
-> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = Shell::Native.config()?.instances(&instances, &[])?;
    let envoy = Envoy::start(&config.field("bootstrap_extensions", json!([]))?).await?;
    envoy.has_healthy(4).await?;
    envoy.owners(&keys(20)).await?;
    let log = envoy.log();
    ensure!(log.contains("nothing is reported to a companion"), "{log}");
    Ok(())
}
