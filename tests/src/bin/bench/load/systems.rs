//! The compared systems: the same Envoy and the same cluster, with different policies.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use unitring_tests::companion::Companion;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;

/// The number of Envoys of each system.
pub(crate) const ENVOYS: usize = 3;
/// Percentage of its fair share that an instance may carry, for every system with a bound.
pub(crate) const BALANCE_FACTOR: u32 = 125;
/// The interval between two reports.
pub(crate) const INTERVAL: &str = "100ms";

/// A running system.
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) envoys: Vec<Envoy>,
}

/// Starts all systems. They stay idle until they are measured.
pub(crate) async fn start(instances: &[Instance], companion: &Companion) -> Result<Vec<System>> {
    let shipped = EnvoyConfig::shipped("envoy.yaml")?
        .instances(instances, &[])?
        .companion(companion)?
        .edit_cluster("orders", |cluster| {
            // Otherwise the health checks of so many idle Envoys would be a load of their own.
            let checks = cluster.pointer_mut("/health_checks/0");
            put(checks.context("no health check")?, "interval", json!("5s"))
        })?;
    let filter = shipped
        .clone()
        .setting("load.balance_factor", json!(BALANCE_FACTOR))?
        .setting("load.min_capacity", json!(1))?
        .setting("explain", json!(false))?;
    let process = filter
        .clone()
        .setting("load.scope", json!("process"))?
        .setting("companion.cluster", json!(""))?;
    let fleet = filter
        .setting("load.scope", json!("fleet"))?
        .setting("companion.interval", json!(INTERVAL))?;
    let native = shipped.without_filter()?;
    let bound = json!({"hash_balance_factor": BALANCE_FACTOR});
    let bound = json!({"consistent_hashing_lb_config": bound});
    let ring_hash = "ring_hash.v3.RingHash";
    Ok(vec![
        with_filter("unitring, `scope: process`", &process, instances).await?,
        with_filter("unitring, `scope: fleet`", &fleet, instances).await?,
        by_policy("Envoy RING_HASH", &native, ring_hash, json!({}), instances).await?,
        by_policy(
            "Envoy RING_HASH, `hash_balance_factor`",
            &native,
            ring_hash,
            bound,
            instances,
        )
        .await?,
        by_policy(
            "Envoy MAGLEV",
            &native,
            "maglev.v3.Maglev",
            json!({}),
            instances,
        )
        .await?,
    ])
}

async fn with_filter(
    name: &'static str,
    config: &EnvoyConfig,
    instances: &[Instance],
) -> Result<System> {
    let envoys = try_join_all((0..ENVOYS).map(|_| Envoy::start(config))).await?;
    try_join_all(envoys.iter().map(|envoy| envoy.steers_to(instances.len()))).await?;
    Ok(System { name, envoys })
}

async fn by_policy(
    name: &'static str,
    native: &EnvoyConfig,
    policy: &str,
    settings: Value,
    instances: &[Instance],
) -> Result<System> {
    let mut settings = settings;
    let kind = format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{policy}");
    put(&mut settings, "@type", json!(kind))?;
    let policy = json!({"typed_extension_config": {"name": "policy", "typed_config": settings}});
    let config = native.clone().edit_cluster("orders", |cluster| {
        put(
            cluster,
            "load_balancing_policy",
            json!({"policies": [policy]}),
        )
    })?;
    let envoys = try_join_all((0..ENVOYS).map(|_| Envoy::start(&config))).await?;
    try_join_all(
        envoys
            .iter()
            .map(|envoy| envoy.has_healthy(instances.len())),
    )
    .await?;
    Ok(System { name, envoys })
}

fn put(object: &mut Value, field: &str, value: Value) -> Result<()> {
    let fields = object.as_object_mut().context("not an object")?;
    fields.insert(field.to_owned(), value);
    Ok(())
}
