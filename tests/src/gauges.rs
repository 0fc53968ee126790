//! Requests in flight at the service `orders`, as the balancer counts them.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::companion::Companion;
use crate::deadline::until;
use crate::envoy::Envoy;
use crate::shell::Shell;
use crate::site::Site;

const IN_FLIGHT: &str = "wasmcustom.unitring.orders.in_flight";

/// Waits until the filter counts this many requests in flight, for the service and for its four instances together. A
/// gauge that went below zero would be huge.
///
/// # Errors
/// The deadline passes first.
pub async fn has_in_flight(envoy: &Envoy, expected: u64) -> Result<()> {
    until(&format!("{expected} in flight"), async || {
        let mut gauges = envoy.stats("wasmcustom.unitring.orders.").await?;
        gauges.retain(|name, _| name.ends_with(".in_flight"));
        let (service, instances): (Vec<_>, Vec<_>) =
            gauges.iter().partition(|(name, _)| *name == IN_FLIGHT);
        let sum = |gauges: Vec<(&String, &u64)>| {
            let counts = gauges.iter().map(|(_, count)| **count);
            counts.fold(0_u64, u64::saturating_add)
        };
        ensure!(instances.len() == 4, "not four instances: {gauges:?}");
        ensure!(
            (sum(service), sum(instances)) == (expected, expected),
            "{gauges:?}"
        );
        Ok(())
    })
    .await
}

impl Site {
    /// Waits until this many requests are in flight, by the filter's gauges, or by the native module's report.
    ///
    /// # Errors
    /// The deadline passes first.
    pub async fn has_in_flight(&self, expected: u64) -> Result<()> {
        has_in_flight_at(&self.envoy, &self.companion, expected).await
    }
}

/// Waits until this many requests are in flight, by the filter's gauges, or by the native module's report to its
/// companion.
///
/// # Errors
/// The deadline passes first.
pub async fn has_in_flight_at(envoy: &Envoy, companion: &Companion, expected: u64) -> Result<()> {
    match envoy.shell {
        Shell::Filter => has_in_flight(envoy, expected).await,
        Shell::Native => is_told(companion, expected).await,
    }
}

/// Waits until the companion has this many requests in flight from its reporters, in a report from now on.
async fn is_told(companion: &Companion, expected: u64) -> Result<()> {
    let begun = Instant::now();
    until(&format!("{expected} in flight by the report"), async || {
        let waited_ms = u64::try_from(begun.elapsed().as_millis())?;
        let service = companion.get("/v1/services/orders").await?;
        let reporters = service.get("reporters").and_then(Value::as_array);
        let ages = reporters.context("no reporters")?.iter();
        let oldest = ages.map(|one| one["age_ms"].as_u64()).max().flatten();
        ensure!(
            oldest.is_some_and(|age_ms| age_ms < waited_ms),
            "no report yet: {service}"
        );
        let instances = service.get("instances").and_then(Value::as_array);
        let instances = instances.context("no instances")?;
        let loads = instances.iter().filter_map(|one| one["in_flight"].as_u64());
        let sum: u64 = loads.fold(0, u64::saturating_add);
        ensure!(instances.len() == 4 && sum == expected, "{service}");
        Ok(())
    })
    .await
}
