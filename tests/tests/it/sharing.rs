//! State that the VMs of a process share if filters have different settings; and settings that are replaced.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::companion::Settings;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys, send};
use unitring_tests::instance::Instance;
use unitring_tests::ports;
use unitring_tests::two_listeners::{beside, set};

#[tokio::test]
async fn a_filter_with_a_list_of_two_takes_nothing_from_one_on_another_listener() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let plain = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
    let native = Envoy::start(&plain.clone().without_filter()?).await?;
    native.has_healthy(4).await?;
    let second = ports::free()?;
    let (two, _) = instances.split_at(2);
    let listed: Vec<Value> = two
        .iter()
        .map(|i| json!({"address": i.address()}))
        .collect();
    // In either order of the listeners.
    for listed_first in [false, true] {
        let source = json!({"source": "static", "instances": listed});
        let config = beside(plain.clone(), second, "discovery", source)?;
        let config = config.edit(|bootstrap| {
            let listeners = bootstrap.pointer_mut("/static_resources/listeners");
            let listeners = listeners.and_then(Value::as_array_mut).context("none")?;
            if listed_first {
                listeners.reverse();
            }
            Ok(())
        })?;
        let mut envoy = Envoy::start_with_workers(&config, 2).await?;
        let expected = native.owners(&keys(60)).await?;
        until("the first listener to place as Envoy alone", async || {
            let placed = envoy.owners(&keys(60)).await?;
            ensure!(placed == expected, "{placed:?}");
            Ok(())
        })
        .await?;
        let first = std::mem::replace(&mut envoy.port, second);
        let placed = envoy.owners(&keys(60)).await?;
        let used: BTreeSet<&str> = placed.values().map(String::as_str).collect();
        assert_eq!(used, ["a", "b"].into());
        envoy.port = first;
        // On a new connection another worker may answer, whose VM learns of the instances later.
        envoy.has_owners(&expected).await?;
    }
    Ok(())
}

/// The sum of a counter of all instances whose stats have this in their name.
async fn sum_of(envoy: &Envoy, named: &str, counter: &str) -> Result<u64> {
    let stats = envoy.stats("wasmcustom.unitring.orders.instance.").await?;
    let is_it = |name: &str| name.contains(named) && name.ends_with(counter);
    let counts = stats.iter().filter(|(name, _)| is_it(name));
    Ok(counts.map(|(_, count)| count).sum())
}

#[tokio::test]
async fn filters_that_know_instances_by_other_ids_count_each_attempt_once() -> Result<()> {
    let mut instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let second = ports::free()?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .unchecked()?
        .edit_cluster("orders", |cluster| {
            let endpoints = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints");
            let endpoints = endpoints.and_then(Value::as_array_mut).context("none")?;
            // One has no name, so both know it by its address.
            for (endpoint, name) in endpoints.iter_mut().zip(["host-a", "host-b", "host-c"]) {
                endpoint["endpoint"]["hostname"] = json!(name);
            }
            Ok(())
        })?;
    let config = beside(config, second, "ring", json!({"identity": "id"}))?;
    let envoy = Envoy::start_with_workers(&config, 2).await?;
    envoy.has_eligible(4).await?;
    let failing = instances.get_mut(1).context("no b")?;
    failing.fail_with(503).await?;
    let looks = envoy.ours("discovery.done").await?;
    until("ten looks of each", async || {
        // So many that some are of b, whatever its port is.
        for key in keys(60) {
            envoy.get(&key).await?;
        }
        ensure!(envoy.ours("discovery.done").await? >= looks + 20);
        Ok(())
    })
    .await?;
    until("every attempt to be counted, and none twice", async || {
        let attempts = envoy.stat("cluster.orders.upstream_rq_total").await?;
        let by_name = sum_of(&envoy, ".host-", ".calls").await?;
        let by_address = sum_of(&envoy, ".127.0.0.1_", ".calls").await?;
        let unnamed = instances
            .last()
            .context("no d")?
            .address()
            .replace(':', "_");
        let of_both = sum_of(&envoy, &unnamed, ".calls").await?;
        let failed = sum_of(&envoy, ".host-", ".failures").await?;
        let told = envoy.ours("failures").await?;
        ensure!(
            (by_address, by_name + of_both) == (attempts, attempts) && (failed, told) != (0, 0),
            "{attempts} attempts, counted {by_address} and {by_name} + {of_both}"
        );
        ensure!(failed == told, "{failed} failures, told {told}");
        Ok(())
    })
    .await
}

fn put(folder: &Path, version: u32, listener: &Value) -> Result<()> {
    let text = json!({"version_info": version.to_string(), "resources": [listener]}).to_string();
    // Envoy notices a file that is moved into place.
    fs::write(folder.join("new"), text)?;
    fs::rename(folder.join("new"), folder.join("listeners.json"))?;
    Ok(())
}

#[tokio::test]
async fn settings_that_lds_changes_hold_at_once_and_are_reported() -> Result<()> {
    let folder = TempDir::with_prefix("unitring-lds-")?;
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let companion = Settings::default().start().await?;
    let port = ports::free()?;
    let mut listener = Value::Null;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .companion(&companion)?
        .node("e")?
        .edit(|bootstrap| {
            let listeners = bootstrap.pointer_mut("/static_resources/listeners");
            listener = listeners
                .and_then(|all| all.get_mut(0))
                .context("none")?
                .take();
            listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
            listener["address"]["socket_address"]["port_value"] = json!(port);
            bootstrap["static_resources"]["listeners"] = json!([]);
            let source = json!({
                "path_config_source": {"path": folder.path().join("listeners.json")},
                "resource_api_version": "V3",
            });
            bootstrap["dynamic_resources"] = json!({"lds_config": source});
            Ok(())
        })?;
    put(folder.path(), 1, &listener)?;
    let mut envoy = Envoy::start_with_workers(&config, 2).await?;
    envoy.port = port;
    envoy.steers_to(4).await?;
    let points = async |envoy: &Envoy, expected: u64| {
        until(
            &format!("a ring of {expected} to be reported"),
            async || {
                // New connections come to the settings in force.
                let request = envoy.request("/").header("x-user-id", "ada");
                let answer = send(request.header("connection", "close")).await?;
                ensure!(answer.status == 200, "{answer:?}");
                let service = companion.get("/v1/services/orders").await?;
                let text = service.to_string();
                ensure!(text.contains(&format!("\"points\":{expected}")), "{text}");
                Ok(())
            },
        )
        .await
    };
    points(&envoy, 1024).await?;
    // The old filter chain drains for ten minutes, and its VMs live on. Envoy wakes them when the
    // listener gets its earlier settings again, and loads nothing.
    for (version, size) in [(2, 64), (3, 2048), (4, 64), (5, 2048)] {
        set(&mut listener, "ring", json!({"min_size": size}))?;
        put(folder.path(), version, &listener)?;
        points(&envoy, size).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_report_has_the_load_of_instances_that_another_listener_alone_lists() -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let companion = Settings::default().start().await?;
    let second = ports::free()?;
    let listed = |instances: &[Instance]| -> Value {
        let all = instances.iter().map(|i| json!({"address": i.address()}));
        json!({"source": "static", "instances": all.collect::<Vec<_>>()})
    };
    let (first_two, last_two) = instances.split_at(2);
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .companion(&companion)?
        .node("e")?
        .setting("discovery", listed(first_two))?;
    let config = beside(config, second, "discovery", listed(last_two))?;
    let mut envoy = Envoy::start_with_workers(&config, 2).await?;
    let first = envoy.port;
    let all: BTreeSet<String> = instances.iter().map(Instance::address).collect();
    until("every call to be reported, and none twice", async || {
        for port in [first, second] {
            envoy.port = port;
            for key in keys(20) {
                let answer = envoy.get(&key).await?;
                ensure!(answer.status == 200, "{answer:?}");
            }
        }
        let service = companion.get("/v1/services/orders").await?;
        let shown = service["instances"].as_array().context("no instances")?;
        let called = shown.iter().filter(|one| one["calls"].as_u64() > Some(0));
        let called: BTreeSet<String> = called
            .filter_map(|one| Some(one["id"].as_str()?.to_owned()))
            .collect();
        ensure!(called == all && shown.len() == 4, "{service}");
        Ok(())
    })
    .await?;
    // The table of one listener contains its own.
    let located = companion.get("/v1/services/orders/locate?key=ada").await?;
    let text = located.to_string();
    let named = all.iter().filter(|address| text.contains(*address)).count();
    ensure!(named <= 2, "{text}");
    Ok(())
}
