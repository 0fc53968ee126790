//! A VM of the filter that dies: its requests are served, its counts leave nothing behind, and the next
//! VM goes on.

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::json;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, send};
use unitring_tests::programs;
use unitring_tests::site::Site;

const WORKERS: u32 = 2;
const HELD: u64 = 30;
const DEATHS: usize = 5;

async fn in_flight(envoy: &Envoy) -> Result<(u64, u64)> {
    let prefix = "wasmcustom.unitring.orders.";
    let stats = envoy.stats(prefix).await?;
    let both = |name: &str| name.ends_with("in_flight") || name.ends_with("in_flight_away");
    let gauges = stats.iter().filter(|(name, _)| both(name));
    let (of_instances, of_service): (Vec<_>, Vec<_>) =
        gauges.partition(|(name, _)| name.contains(".instance."));
    let sum = |gauges: Vec<(&String, &u64)>| {
        gauges
            .iter()
            .fold(0_u64, |sum, (_, n)| sum.wrapping_add(**n))
    };
    Ok((sum(of_service), sum(of_instances)))
}

async fn has_in_flight(envoy: &Envoy, expected: u64) -> Result<()> {
    until(&format!("{expected} in flight"), async || {
        let seen = in_flight(envoy).await?;
        ensure!(seen == (expected, expected), "{seen:?}");
        Ok(())
    })
    .await
}

async fn survives(moment: &str) -> Result<()> {
    let filter = programs::trapping_filter()?;
    let site = Site::start_with_workers(WORKERS, |config| {
        config
            .patient()?
            .filter(&filter)?
            .setting("companion.interval", json!("250ms"))
    })
    .await?;
    let envoy = &site.envoy;
    let held = (0..HELD).map(|number| {
        let request = envoy.request("/?stream_ms=120000");
        request.header("x-user-id", format!("user-{number}")).send()
    });
    let held = join_all(held).await;
    assert!(held.iter().all(Result::is_ok));
    has_in_flight(envoy, HELD).await?;

    // A VM dies with its counts; Envoy starts another for a later request.
    for number in 0..DEATHS {
        let request = envoy
            .request("/")
            .header("x-user-id", format!("fatal-{number}"));
        let answer = send(request.header("x-trap", moment)).await;
        let is_served = answer.is_ok_and(|answer| answer.status == 200);
        ensure!(!is_served, "a request that killed its VM was served");
        // Each worker gets some of them.
        until("every request to be served again", async || {
            for follower in 0..20 {
                let answer = envoy.get(&format!("user-{follower}")).await?;
                ensure!(answer.status == 200, "{}", answer.status);
            }
            Ok(())
        })
        .await?;
    }
    drop(held);
    has_in_flight(envoy, 0).await?;

    // The VMs that took over count, report and steer.
    let before = site
        .envoy
        .stat("wasmcustom.unitring.orders.report.sent")
        .await?;
    until("reports to go on", async || {
        let sent = envoy.stat("wasmcustom.unitring.orders.report.sent").await?;
        ensure!(sent > before, "{sent}");
        Ok(())
    })
    .await?;
    for number in 0..40 {
        let answer = envoy.get(&format!("user-{number}")).await?;
        let reason = answer
            .header("x-unitring-reason")
            .context("not explained")?;
        assert_eq!((answer.status, reason), (200, "primary"));
    }
    has_in_flight(envoy, 0).await
}

#[tokio::test]
async fn a_vm_that_dies_before_it_chose_leaves_nothing_in_flight() -> Result<()> {
    survives("before").await
}

#[tokio::test]
async fn a_vm_that_dies_with_requests_taken_leaves_nothing_in_flight() -> Result<()> {
    survives("taken").await
}
