//! Envoy's counts of updates, which show whether it has read a change.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use unitring_tests::envoy::Envoy;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Updates {
    clusters: BTreeMap<String, u64>,
    pub(super) cds: u64,
    pub(super) rejected: u64,
    pub(super) warming: u64,
}

impl Updates {
    pub(super) async fn of(envoy: &Envoy) -> Result<Self> {
        let path = "/stats?filter=(update_(success|rejected)%7Cwarming_clusters)$";
        let text = envoy.admin(path).await?;
        let mut updates = Self::default();
        for line in text.lines() {
            let (name, value) = line.rsplit_once(": ").context("no value")?;
            let value: u64 = value.parse()?;
            if name == "cluster_manager.cds.update_success" {
                updates.cds = value;
            } else if name == "cluster_manager.warming_clusters" {
                updates.warming = value;
            } else if name.ends_with(".update_rejected") {
                updates.rejected += value;
            } else if let Some(name) = name.strip_prefix("cluster.")
                && let Some(name) = name.strip_suffix(".update_success")
            {
                updates.clusters.insert(name.to_owned(), value);
            }
        }
        Ok(updates)
    }

    /// How often Envoy read the endpoints of a cluster. Envoy's names of stats have an underscore for
    /// each colon.
    pub(super) fn endpoints(&self, cluster: &str) -> Option<u64> {
        self.clusters.get(&cluster.replace(':', "_")).copied()
    }
}
