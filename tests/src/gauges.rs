//! The filter's gauges of what is in flight at the service `orders`.

use anyhow::{Result, ensure};

use crate::deadline::until;
use crate::envoy::Envoy;

const IN_FLIGHT: &str = "wasmcustom.unitring.orders.in_flight";

/// Waits until the filter counts so much in flight, for the service and for its four instances together. A gauge that
/// went below zero would be huge.
///
/// # Errors
/// That never happens.
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
