//! Hosts that EDS has removed, which Envoy keeps while they pass their checks.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::endpoints_of;
use unitring_tests::deadline::until;
use unitring_tests::instance::Instance;

use super::{Chosen, Fronts, locality, put};

fn checks() -> Value {
    json!([{
        // A slow answer is no failure here, and one failure would be final.
        "timeout": "60s",
        "interval": "0.25s",
        "no_traffic_interval": "0.25s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/healthz"},
    }])
}

/// Whether the filter named a host for every key, and exactly these instances were chosen.
fn all_of(chosen: &[Chosen], instances: &[Instance], at: &[usize]) -> bool {
    let addresses = at.iter().filter_map(|at| instances.get(*at));
    let addresses: Vec<String> = addresses.map(Instance::address).collect();
    let is_right = |(host, named): &Chosen| named.is_some() && addresses.contains(host);
    let is_used = |address: &String| chosen.iter().any(|(host, _)| host == address);
    chosen.iter().all(is_right) && addresses.iter().all(is_used)
}

#[tokio::test]
async fn three_of_four_that_eds_removes_keep_their_keys_while_they_pass_checks_and_never_return()
-> Result<()> {
    let mut instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let of = |instances: &[Instance]| {
        let endpoints = endpoints_of(instances, &[]);
        let endpoints = endpoints.as_array().map_or(&[][..], Vec::as_slice);
        json!([locality(0, endpoints)])
    };
    let fronts = Fronts::start(of(&instances), |cluster| {
        cluster["health_checks"] = checks();
        Ok(())
    })
    .await?;
    let all = |chosen: &[Chosen]| all_of(chosen, &instances, &[0, 1, 2, 3]);
    fronts.agree(all).await?;
    put(&fronts.hosts, of(instances.get(..1).context("no a")?))?;
    until("Envoy to await their removal", async || {
        for envoy in [&fronts.native, &fronts.filtered] {
            let page = envoy.admin("/clusters").await?;
            let awaited = page.matches("/pending_dynamic_removal").count();
            ensure!(awaited == 3, "{page}");
        }
        Ok(())
    })
    .await?;
    fronts.looks_again().await?;
    fronts.agree(all).await?;
    // Each leaves the cluster at its first failed check. So a majority that fails is no panic.
    for (gone, left) in [(1, &[0, 2, 3][..]), (2, &[0, 3]), (3, &[0])] {
        instances.get_mut(gone).context("none")?.kill()?;
        fronts
            .agree(|chosen| all_of(chosen, &instances, left))
            .await?;
    }
    for instance in instances.iter_mut().skip(1) {
        instance.restart().await?;
    }
    fronts.looks_again().await?;
    fronts
        .agree(|chosen| all_of(chosen, &instances, &[0]))
        .await
}
