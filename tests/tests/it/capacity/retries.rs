//! The hard cap under retries, which take no place when they begin: the filter learns of them at its next
//! look at Envoy's counts.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Response;
use serde_json::json;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::site::Site;

const CAP: u64 = 2;
const WORKERS: u32 = 2;

/// Requests of as many keys that an instance holds, or that fail at once.
async fn hold(envoy: &Envoy, from: usize, count: usize) -> Result<Vec<Response>> {
    let requests = (from..from + count).map(|number| {
        let request = envoy.request("/?stream_ms=120000");
        request.header("x-user-id", format!("user-{number}")).send()
    });
    Ok(try_join_all(requests).await?)
}

async fn looks(envoy: &Envoy, more: u64) -> Result<()> {
    let seen = envoy.ours("discovery.done").await?;
    until("more looks", async || {
        ensure!(envoy.ours("discovery.done").await? >= seen + more);
        Ok(())
    })
    .await
}

/// Two instances refuse every request, and nothing ejects them.
async fn half_refuses(load: serde_json::Value, explain: bool) -> Result<Site> {
    let mut site = Site::start_with_workers(WORKERS, |config| {
        config
            .patient()?
            .unchecked()?
            .setting("explain", json!(explain))?
            .setting("ejection.consecutive_failures", json!(0))?
            .setting("load", load)
    })
    .await?;
    for id in ["a", "b"] {
        site.instance(id).kill()?;
    }
    Ok(site)
}

async fn peak(site: &Site) -> Result<u64> {
    let mut peak = 0;
    for instance in site.instances.iter().skip(2) {
        peak = peak.max(instance.load().await?.peak);
    }
    Ok(peak)
}

/// Each of the two that refuse has places for [`CAP`] requests, all of which may have been retried on one instance before
/// the first look that shows them.
const MOST: u64 = CAP + 2 * CAP;

#[tokio::test]
async fn the_cap_is_exceeded_by_the_retries_of_one_look_and_by_no_more() -> Result<()> {
    the_cap_is_exceeded_once(false, MOST).await
}

/// The place on the instance that refused is free when another has answered, and another worker knows of the request there
/// at its next tick.
#[tokio::test]
async fn with_explain_each_worker_may_exceed_the_cap_so_and_by_no_more() -> Result<()> {
    the_cap_is_exceeded_once(true, MOST * u64::from(WORKERS)).await
}

async fn the_cap_is_exceeded_once(explain: bool, most: u64) -> Result<()> {
    let load = json!({"balance_factor": 0, "max_in_flight": CAP, "scope": "process"});
    let site = half_refuses(load, explain).await?;
    let mut held = hold(&site.envoy, 0, 40).await?;
    let first = peak(&site).await?;
    ensure!(first <= most, "{first} at once");
    // From then on the filter knows, and each further look adds nothing.
    for round in 1..=6 {
        looks(&site.envoy, 3).await?;
        held.extend(hold(&site.envoy, round * 40, 40).await?);
        let peak = peak(&site).await?;
        ensure!(
            peak <= most,
            "{peak} after {round} rounds, {first} at first"
        );
    }
    let served = held.iter().filter(|answer| answer.status() == 200).count();
    let refused = held.iter().filter(|answer| answer.status() == 503).count();
    assert_eq!(served + refused, held.len());
    ensure!(served >= 2 * usize::try_from(CAP)?, "{served}");
    // The cap ends with the load.
    drop(held);
    until("requests to be served again", async || {
        let answers = hold(&site.envoy, 0, 2).await?;
        ensure!(
            answers.iter().all(|answer| answer.status() == 200),
            "{answers:?}"
        );
        Ok(())
    })
    .await
}

/// Requests that have ended fill no place, however many there were since the filter last read its gauges.
#[tokio::test]
async fn under_the_cap_retries_of_many_short_requests_find_another_instance() -> Result<()> {
    let site = half_refuses(json!({"max_in_flight": 20, "scope": "process"}), true).await?;
    for round in 0..200 {
        let requests = (0..8).map(|number| {
            let key = format!("user-{}", round * 8 + number);
            site.envoy.request("/").header("x-user-id", key).send()
        });
        for answer in try_join_all(requests).await? {
            ensure!(answer.status() == 200, "{answer:?} in round {round}");
        }
    }
    Ok(())
}
