//! Kinds of clusters and their features.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys, send};
use unitring_tests::instance::Instance;

use super::{Pair, add_route, ask, edit_route, is_idle, is_steered};

/// The cluster's policy, which contains that of the other pointer.
pub(crate) const WHOLE: &str = "/load_balancing_policy";
/// The fallback of `override_host`.
const FALLBACK: &str =
    "/load_balancing_policy/policies/0/typed_extension_config/typed_config/fallback_policy";

/// The configuration of that fallback.
const RING: &str = "/load_balancing_policy/policies/0/typed_extension_config/typed_config/fallback_policy\
    /policies/0/typed_extension_config/typed_config";

/// Two subsets of two instances each, around the policy at `place`; requests below `/v1` ask for the first.
pub(crate) fn with_subsets(config: EnvoyConfig, place: &str) -> Result<EnvoyConfig> {
    let config = config.edit_cluster("orders", |cluster| {
        let endpoints = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints");
        let endpoints = endpoints.and_then(Value::as_array_mut).context("none")?;
        for (endpoint, version) in endpoints.iter_mut().zip(["v1", "v1", "v2", "v2"]) {
            endpoint["metadata"] = json!({"filter_metadata": {"envoy.lb": {"version": version}}});
        }
        let policy = cluster.pointer_mut(place).context("no policy")?;
        let inner = policy.take();
        *policy = json!({"policies": [{"typed_extension_config": {
            "name": "envoy.load_balancing_policies.subset",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset",
                "fallback_policy": "ANY_ENDPOINT",
                "subset_selectors": [{"keys": ["version"]}],
                "subset_lb_policy": inner,
            },
        }}]});
        Ok(())
    })?;
    add_route(config, "/v1", |route| {
        let wanted = json!({"filter_metadata": {"envoy.lb": {"version": "v1"}}});
        route["route"]["metadata_match"] = wanted;
        Ok(())
    })
}

#[tokio::test]
async fn in_a_cluster_with_subsets_every_key_is_where_envoy_alone_has_it() -> Result<()> {
    subsets_are_left_to_envoy(WHOLE).await
}

#[tokio::test]
async fn no_choice_leaves_the_subset_that_the_fallback_of_override_host_would_take() -> Result<()> {
    subsets_are_left_to_envoy(FALLBACK).await
}

async fn subsets_are_left_to_envoy(place: &str) -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let native = with_subsets(config.clone().without_filter()?, WHOLE);
    // The filter's placement differs from Envoy's, so an agreement shows that Envoy chose.
    let config = config.setting("ring.fill", json!("fixed"))?;
    let native = Envoy::start(&native?).await?;
    let filtered = Envoy::start(&with_subsets(config, place)?).await?;
    for envoy in [&native, &filtered] {
        envoy.has_healthy(4).await?;
    }
    until("the filter to leave the service to Envoy", async || {
        ask(&filtered, "/", "user-0").await?;
        let name = "wasmcustom.unitring.orders.fallback.left";
        ensure!(filtered.stat(name).await? > 0, "it does not");
        Ok(())
    })
    .await?;
    // A worker learns of a host's health a moment after the main thread, whose stats this reads.
    until("both to choose the same", async || {
        for path in ["/", "/v1"] {
            for key in keys(100) {
                let native = ask(&native, path, &key).await?.instance;
                let placed = ask(&filtered, path, &key).await?.instance;
                ensure!(placed == native, "{path}: {key}: {placed}, not {native}");
                ensure!(path == "/" || ["a", "b"].contains(&placed.as_str()));
            }
        }
        Ok(())
    })
    .await?;
    is_idle(&filtered).await
}

#[tokio::test]
async fn an_aggregate_cluster_fails_over_as_without_the_filter() -> Result<()> {
    let backup = Instance::start_all(&["x", "y", "z"]).await?;
    let mut pair = Pair::start(&|config| {
        let config = config.copy_cluster("orders", "backup", &backup)?;
        let config = config.add_aggregate(&["orders", "backup"])?;
        edit_route(config, |route| {
            route["cluster"] = json!("both");
            Ok(())
        })
    })
    .await?;
    pair.agree("/").await?;
    for instance in &mut pair.instances {
        instance.kill()?;
    }
    pair.native.has_healthy(0).await?;
    pair.filtered.has_healthy(0).await?;
    // A worker learns of it later, of the last instances up to a second: Envoy merges such changes.
    until(
        "the backup to answer, and both to choose the same",
        async || {
            for key in keys(100) {
                let native = ask(&pair.native, "/", &key).await?.instance;
                let placed = ask(&pair.filtered, "/", &key).await?.instance;
                ensure!(backup.iter().any(|one| one.id == native), "{key}: {native}");
                ensure!(placed == native, "{key}: {placed}, not {native}");
            }
            Ok(())
        },
    )
    .await?;
    pair.is_idle().await
}

#[tokio::test]
async fn an_aggregate_cluster_that_spills_over_is_exact_in_each_of_its_clusters() -> Result<()> {
    let backup = Instance::start_all(&["x", "y", "z"]).await?;
    let mut pair = Pair::start(&|config| {
        let config = config.copy_cluster("orders", "backup", &backup)?;
        edit_route(config.add_aggregate(&["orders", "backup"])?, |route| {
            route["cluster"] = json!("both");
            Ok(())
        })
    })
    .await?;
    // With half of its instances the first cluster keeps 70 % of the requests. Envoy draws the cluster anew for
    // each request, whatever its key.
    for instance in pair.instances.iter_mut().take(2) {
        instance.kill()?;
    }
    pair.native.has_healthy(2).await?;
    pair.filtered.steers_to(2).await?;
    let owners = async |envoy: &Envoy| -> Result<BTreeSet<(String, String)>> {
        let mut owners = BTreeSet::new();
        for key in keys(40) {
            let mut seen = BTreeSet::new();
            // Until both clusters were drawn: 1 key in 10^30 takes longer.
            for asked in 0..200 {
                if asked >= 16 && seen.len() >= 2 {
                    break;
                }
                seen.insert(ask(envoy, "/", &key).await?.instance);
            }
            owners.extend(seen.into_iter().map(|owner| (key.clone(), owner)));
        }
        Ok(owners)
    };
    let native = owners(&pair.native).await?;
    let placed = owners(&pair.filtered).await?;
    assert_eq!(placed, native);
    // Each key has an instance in either cluster.
    assert_eq!(placed.len(), 80);
    pair.is_idle().await
}

#[tokio::test]
async fn below_an_aggregate_cluster_a_key_has_the_priority_that_its_clusters_policy_gives_it()
-> Result<()> {
    let mut instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let config = config.edit_cluster("orders", |cluster| {
        let localities = cluster.pointer_mut("/load_assignment/endpoints");
        let localities = localities.context("none")?;
        let all = localities.pointer("/0/lb_endpoints");
        let all = all.and_then(Value::as_array).context("none")?;
        let (first, second) = all.split_at(2);
        *localities = json!([
            {"priority": 0, "lb_endpoints": first},
            {"priority": 1, "lb_endpoints": second},
        ]);
        Ok(())
    })?;
    let config = edit_route(config.add_aggregate(&["orders"])?, |route| {
        route["cluster"] = json!("both");
        Ok(())
    })?;
    let native = Envoy::start(&config.clone().without_filter()?).await?;
    let filtered = Envoy::start(&config).await?;
    native.has_healthy(4).await?;
    instances.first_mut().context("no a")?.kill()?;
    native.has_healthy(3).await?;
    // The other of the first priority, and both of the second.
    filtered.steers_to(3).await?;
    let mut used = BTreeSet::new();
    for key in keys(120) {
        let mut owners = BTreeSet::new();
        for _ in 0..5 {
            owners.insert(ask(&native, "/", &key).await?.instance);
            let placed = ask(&filtered, "/", &key).await?;
            is_steered(&placed, &instances)?;
            owners.insert(placed.instance);
        }
        assert_eq!(owners.len(), 1, "{key}: {owners:?}");
        used.append(&mut owners);
    }
    assert_eq!(used.len(), 3, "{used:?}");
    is_idle(&filtered).await
}

#[tokio::test]
async fn what_a_circuit_breaker_refuses_leaves_nothing_in_flight() -> Result<()> {
    let pair = Pair::start(&|config| {
        config.edit_cluster("orders", |cluster| {
            cluster["circuit_breakers"] = json!({"thresholds": [{"max_requests": 1}]});
            Ok(())
        })
    })
    .await?;
    for envoy in [&pair.native, &pair.filtered] {
        let request = envoy.request("/?stream_ms=120000");
        let held = request.header("x-user-id", "user-0").send().await?;
        let refused = send(envoy.request("/").header("x-user-id", "user-1")).await?;
        let told = refused.header("x-envoy-overloaded");
        assert_eq!((refused.status, told), (503, Some("true")));
        drop(held);
    }
    pair.is_idle().await?;
    until("requests to be served again", async || {
        ask(&pair.filtered, "/", "user-1").await
    })
    .await?;
    is_idle(&pair.filtered).await
}

#[tokio::test]
async fn envoy_refuses_what_an_override_host_policy_cannot_be_combined_with() -> Result<()> {
    let config = EnvoyConfig::shipped("envoy.yaml")?;
    let cannot_be_combined = "load_balancing_policy cannot be combined with";
    let subsets = json!({"fallback_policy": "ANY_ENDPOINT", "subset_selectors": [{"keys": ["v"]}]});
    for (field, value, told) in [
        ("zone_aware_lb_config", json!({}), cannot_be_combined),
        ("locality_weighted_lb_config", json!({}), cannot_be_combined),
        ("lb_subset_config", subsets, cannot_be_combined),
        ("slow_start_config", json!({}), "has unknown fields"),
        (
            "type",
            json!("ORIGINAL_DST"),
            "Only 'CLUSTER_PROVIDED' is allowed",
        ),
    ] {
        let config = config.clone().edit_cluster("orders", |cluster| {
            match field {
                "zone_aware_lb_config" | "locality_weighted_lb_config" => {
                    cluster["common_lb_config"][field] = value;
                }
                "slow_start_config" => {
                    cluster.pointer_mut(RING).context("no ring")?[field] = value;
                }
                _ => cluster[field] = value,
            }
            if field == "type" {
                let fields = cluster.as_object_mut().context("not an object")?;
                fields.remove("load_assignment");
                fields.remove("health_checks");
            }
            Ok(())
        })?;
        let said = Envoy::refuses(&config).await?;
        ensure!(said.contains(told), "{field}: {said}");
    }
    Ok(())
}
