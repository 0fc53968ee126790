//! Envoy's own counts of each host, and a comparison with the filter's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::deadline::until;
use crate::envoy::Envoy;

/// Envoy's counts of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Attempts that were sent to it.
    pub calls: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Attempts under way.
    pub active: u64,
}

/// The counts of each host of a cluster, by address.
///
/// # Errors
/// The admin interface does not answer, or not as Envoy does.
pub async fn host_counts(envoy: &Envoy, cluster: &str) -> Result<BTreeMap<String, HostCounts>> {
    let page = envoy.admin("/clusters").await?;
    let mut hosts: BTreeMap<String, HostCounts> = BTreeMap::new();
    for line in page.lines() {
        let parts: Vec<&str> = line.split("::").collect();
        let [name, address, stat, value] = parts.as_slice() else {
            continue;
        };
        if *name != cluster || !address.contains(':') {
            continue;
        }
        let counts = hosts.entry((*address).to_owned()).or_default();
        let place = match *stat {
            "rq_total" => &mut counts.calls,
            "rq_error" => &mut counts.errors,
            "rq_active" => &mut counts.active,
            _ => continue,
        };
        *place = value.parse().with_context(|| line.to_owned())?;
    }
    ensure!(!hosts.is_empty(), "no hosts of {cluster}: {page}");
    Ok(hosts)
}

/// A stat of an instance of the service `orders`, by the filter.
///
/// # Errors
/// The admin interface does not answer.
pub async fn counted(envoy: &Envoy, address: &str, stat: &str) -> Result<u64> {
    let address = address.replace(':', "_");
    envoy.ours(&format!("instance.{address}.{stat}")).await
}

/// Waits until the filter has the calls and failures that Envoy counts, of each instance of `orders`, and
/// returns Envoy's counts.
///
/// # Errors
/// The deadline passes first.
pub async fn counts_as_envoy(envoy: &Envoy) -> Result<BTreeMap<String, HostCounts>> {
    until("the filter to count as Envoy", async || {
        let hosts = host_counts(envoy, "orders").await?;
        for (address, counts) in &hosts {
            let calls = counted(envoy, address, "calls").await?;
            let failures = counted(envoy, address, "failures").await?;
            ensure!(
                (calls, failures) == (counts.calls, counts.errors),
                "{address}: {calls} calls and {failures} failures, Envoy has {counts:?}"
            );
        }
        Ok(hosts)
    })
    .await
}
