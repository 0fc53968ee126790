//! A cluster in Envoy's admin interface, as the filter requests it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use unitring_tests::envoy::Envoy;
use unitring_tests::shell::Shell;

use super::cluster::{Cluster, Source};

/// The pages from which the owners of keys are derived.
#[derive(Debug)]
pub(super) struct Pages {
    /// `/clusters`, as JSON.
    pub(super) hosts: Value,
    /// The endpoints in `/config_dump`.
    pub(super) endpoints: Value,
    /// The cluster in `/config_dump`.
    pub(super) settings: Value,
    /// `/runtime`.
    pub(super) runtime: Value,
}

const MASK: &str = "cluster.name,cluster.load_balancing_policy,cluster.common_lb_config,\
    cluster.load_assignment.policy,cluster.outlier_detection,cluster.health_checks,last_updated";

impl Pages {
    pub(super) async fn of(envoy: &Envoy, cluster: &Cluster) -> Result<Self> {
        let name = regex(&cluster.name);
        let endpoints = match &cluster.source {
            Source::Eds {
                service_name: Some(name),
            } => regex(name),
            _ => name.clone(),
        };
        let (kind, list) = if cluster.by_api {
            ("dynamic_endpoint_configs", "dynamic_active_clusters")
        } else {
            ("static_endpoint_configs", "static_clusters")
        };
        let page = async |path: String| -> Result<Value> {
            let text = envoy.admin(&path).await.with_context(|| path.clone())?;
            serde_json::from_str(&text).context(text)
        };
        let mut pages = Self {
            hosts: page(format!("/clusters?format=json&filter={name}")).await?,
            endpoints: page(format!(
                "/config_dump?include_eds&resource={kind}&name_regex={endpoints}"
            ))
            .await?,
            settings: page(format!(
                "/config_dump?resource={list}&name_regex={name}&mask={MASK}"
            ))
            .await?,
            runtime: page("/runtime".to_owned()).await?,
        };
        // Envoy before 1.38 ignores the filter.
        if let Some(statuses) = pages.hosts["cluster_statuses"].as_array_mut() {
            statuses.retain(|status| status["name"] == cluster.name.as_str());
        }
        if cluster.shell == Shell::Native
            && let Some(shown) = pages
                .settings
                .pointer_mut("/configs/0/cluster/load_balancing_policy")
        {
            // The module's settings say what Envoy's policy would have said.
            *shown = cluster.policy.config();
        }
        Ok(pages)
    }

    /// Properties of these pages that a test run should have seen.
    pub(super) fn sights(&self) -> impl Iterator<Item = &'static str> {
        const FLAGS: [&str; 16] = [
            "failed_active_health_check",
            "failed_outlier_check",
            "failed_active_degraded_check",
            "failed_degraded_outlier_detection",
            "pending_dynamic_removal",
            "pending_active_hc",
            "excluded_via_immediate_hc_fail",
            "DRAINING",
            "DEGRADED",
            "hash_key",
            "use_hostname_for_hashing",
            "locality_weighted_lb_config",
            "weighted_priority_health",
            "pipe",
            "envoy_internal_address",
            "upstream.healthy_panic_threshold",
        ];
        let pages = [&self.hosts, &self.endpoints, &self.settings, &self.runtime];
        let pages = pages.map(Value::to_string);
        FLAGS
            .into_iter()
            .filter(move |flag| pages.iter().any(|page| page.contains(flag)))
    }
}

/// A regular expression for this name only, as part of a URL.
fn regex(name: &str) -> String {
    let mut regex = "%5E".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            regex.push(char::from(byte));
        } else {
            regex.push_str(&format!("%5C%{byte:02X}"));
        }
    }
    regex + "%24"
}

/// The lines of each cluster in the text of `/clusters`.
pub(super) type State = BTreeMap<String, Vec<String>>;

/// The hosts, without counts that requests change. The order of clusters differs each time.
pub(super) fn state(names: &[&str], text: &str) -> State {
    const COUNTS: [&str; 4] = [
        "::cx_",
        "::rq_",
        "::success_rate",
        "::local_origin_success_rate",
    ];
    let mut state = State::new();
    for line in text
        .lines()
        .filter(|line| !COUNTS.iter().any(|count| line.contains(count)))
    {
        let is_of = |name: &&&str| {
            line.strip_prefix(**name)
                .is_some_and(|rest| rest.starts_with("::"))
        };
        if let Some(name) = names.iter().find(is_of) {
            state
                .entry((*name).to_owned())
                .or_default()
                .push(line.to_owned());
        }
    }
    state
}
