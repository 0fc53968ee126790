//! Instances come and go without end; Envoy's number of stats and the memory of its process stay bounded.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::on_both_shells;
use unitring_tests::shell::Shell;

on_both_shells! {
    after_ten_thousand_instances_stats_and_memory_are_what_they_were,
}

const PER_ROUND: usize = 500;
const ROUNDS: usize = 20;
/// From this round on nothing may grow. All stat names of instances are in use, and so are the slots
/// after them; an instance that goes frees its slot for a new one.
const SETTLED: usize = 6;
/// Memory differs a little between measurements.
const NOISE_PERCENT: u64 = 15;

/// Writes the endpoints of a round, all of them new. Envoy notices the file when it is moved into place.
fn write_round(folder: &Path, round: usize) -> Result<()> {
    let endpoints: Vec<_> = (0..PER_ROUND)
        .map(|number| {
            let address = format!("10.{round}.{}.{}", number / 250, number % 250 + 1);
            let address = json!({"address": address, "port_value": 8080});
            json!({"endpoint": {"address": {"socket_address": address}}})
        })
        .collect();
    let assignment = json!({
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "orders",
            "endpoints": [{"lb_endpoints": endpoints}],
        }],
    });
    let new = folder.join("new.json");
    fs::write(&new, assignment.to_string())?;
    Ok(fs::rename(new, folder.join("eds.json"))?)
}

async fn has_followed(envoy: &Envoy, round: usize) -> Result<()> {
    let first = format!("10.{round}.0.1:8080");
    until(&format!("Envoy to have round {round}"), async || {
        let clusters = envoy.admin("/clusters").await?;
        ensure!(clusters.contains(&first), "not yet");
        Ok(())
    })
    .await?;
    if envoy.shell() == Shell::Native {
        return envoy.has_eligible(u64::try_from(PER_ROUND)?).await;
    }
    let done = "wasmcustom.unitring.orders.discovery.done";
    let looks = envoy.stat(done).await?;
    until("the filter to have followed", async || {
        let now = envoy.stat(done).await?;
        let stats = envoy.stats("wasmcustom.unitring.orders.instances").await?;
        let known = stats.values().all(|count| *count == PER_ROUND as u64);
        ensure!(now >= looks + 2 && known, "{now} after {looks}: {stats:?}");
        Ok(())
    })
    .await
}

async fn after_ten_thousand_instances_stats_and_memory_are_what_they_were(
    shell: Shell,
) -> Result<()> {
    let folder = TempDir::new()?;
    write_round(folder.path(), 0)?;
    let companion = Settings::default().start().await?;
    let config = shell
        .by_registry()?
        .companion(&companion)?
        .unchecked()?
        .of_filter("discovery.interval", json!("250ms"))?
        .edit_cluster("orders", |cluster| {
            let fields = cluster.as_object_mut().context("not an object")?;
            let path = folder.path().join("eds.json");
            fields["eds_cluster_config"]["eds_config"] = json!({
                "resource_api_version": "V3",
                "path_config_source": {"path": path},
            });
            Ok(())
        })?;
    let envoy = Envoy::start_with_workers(&config, 2).await?;
    // Both workers get requests.
    for number in 0..20 {
        drop(envoy.request("/").header("x-user-id", number).send().await);
    }
    // Envoy makes a count of a status when it first meets it: where a busy machine answers the filter late, it is new.
    let stats = async || -> Result<BTreeSet<String>> {
        let names = envoy.stats("").await?.into_keys();
        Ok(names
            .filter(|name| !name.contains("upstream_rq_"))
            .collect())
    };
    let mut settled = None;
    for round in 0..ROUNDS {
        write_round(folder.path(), round)?;
        has_followed(&envoy, round).await?;
        if round == SETTLED {
            settled = Some((stats().await?, envoy.resident_bytes()?));
        }
    }
    let (stats_before, memory_before) = settled.context("too few rounds")?;
    let (stats, memory) = (stats().await?, envoy.resident_bytes()?);
    let (many_before, many) = (stats_before.len(), stats.len());
    println!("{many_before} stats, {memory_before} bytes; then {many} stats, {memory} bytes");
    let differing: Vec<_> = stats.symmetric_difference(&stats_before).collect();
    assert!(differing.is_empty(), "{differing:?}");
    assert!(
        memory <= memory_before + memory_before / 100 * NOISE_PERCENT,
        "{memory_before} bytes, then {memory}"
    );
    Ok(())
}
