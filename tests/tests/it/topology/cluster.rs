//! A cluster of any shape, in Envoy's configuration.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use unitring_tests::config::{is_before, without_newer};
use unitring_tests::programs;
use unitring_tests::shell::Shell;

use super::address::Address;
use super::policy::Policy;
use super::responder::{Check, Request};
use super::shell;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Cluster {
    pub(super) number: usize,
    /// Any characters that names of clusters have.
    pub(super) name: String,
    /// Whether it comes by CDS, and so may be replaced.
    pub(super) by_api: bool,
    pub(super) source: Source,
    pub(super) policy: Policy,
    /// The shell that chooses by that policy.
    pub(super) shell: Shell,
    pub(super) panic_percent: Option<f64>,
    /// Seconds; `None` is Envoy's default of one.
    pub(super) merge_window: Option<f64>,
    pub(super) checks: Option<Checks>,
    pub(super) outliers: Option<Outliers>,
    pub(super) ignore_health_on_removal: bool,
    pub(super) overprovisioning: Option<u32>,
    pub(super) weighted_priority_health: bool,
    /// The filter's setting of the same: Envoy does not show it for an EDS cluster.
    pub(super) told_weighted: Option<bool>,
    pub(super) localities: Vec<Locality>,
    /// Removed hosts: Envoy continues to check them, and to use them while they pass.
    pub(super) removed: Vec<Host>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) enum Source {
    Static,
    /// `STRICT_DNS`, with names that are addresses.
    Dns,
    Eds {
        service_name: Option<String>,
    },
}

/// Active checks.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Checks {
    pub(super) unhealthy_threshold: u32,
    pub(super) healthy_threshold: u32,
    /// Whether a host that was not checked yet is left out of every count.
    pub(super) ignore_new: bool,
}

/// Outlier detection.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outliers {
    pub(super) consecutive_5xx: u32,
    pub(super) max_percent: Option<u32>,
    pub(super) check_unejects: bool,
    pub(super) degraded: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Locality {
    pub(super) priority: u32,
    /// Region, zone, sub-zone.
    pub(super) place: [&'static str; 3],
    pub(super) weight: Option<u32>,
    pub(super) hosts: Vec<Host>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Host {
    pub(super) address: Address,
    /// Another address of the same host, which no policy uses.
    pub(super) additional: Option<Address>,
    pub(super) hostname: String,
    pub(super) hash_key: Option<Value>,
    pub(super) weight: Option<u32>,
    pub(super) eds_health: &'static str,
    pub(super) unchecked: bool,
    pub(super) check: Check,
    /// How it answers while hosts are to be ejected.
    pub(super) request: Request,
}

impl Cluster {
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.localities.iter().flat_map(|locality| &locality.hosts)
    }

    /// The hosts with the cluster's number, removed hosts first.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, &Host)> {
        let all = self.removed.iter().chain(self.hosts());
        all.map(|host| (self.number, host))
    }

    /// Whether Envoy may change its `overprovisioning_factor`, which comes with the endpoints. The native module has
    /// a setting for it, which comes with the cluster.
    pub(super) fn may_change_overprovisioning(&self) -> bool {
        self.by_api || self.shell != Shell::Native
    }

    pub(super) fn is_eds(&self) -> bool {
        matches!(self.source, Source::Eds { .. })
    }

    /// The cluster; an EDS cluster's endpoints are in this file.
    pub(super) fn config(&self, endpoints: &Path) -> Value {
        let mut common = json!({});
        if let Some(percent) = self.panic_percent {
            common["healthy_panic_threshold"] = json!({"value": percent});
        }
        if let Some(window) = self.merge_window {
            common["update_merge_window"] = json!(format!("{window}s"));
        }
        let mut config = json!({
            "name": self.name,
            "connect_timeout": "1s",
            "load_balancing_policy": shell::policy(self),
            "ignore_health_on_host_removal": self.ignore_health_on_removal,
        });
        if let Some(checks) = &self.checks {
            common["ignore_new_hosts_until_first_hc"] = json!(checks.ignore_new);
            config["health_checks"] = json!([{
                // A host without an answer stays without one.
                "timeout": "600s",
                "interval": "0.25s",
                "no_traffic_interval": "0.25s",
                "unhealthy_threshold": checks.unhealthy_threshold,
                "healthy_threshold": checks.healthy_threshold,
                "http_health_check": {"path": format!("/check/{}", self.number)},
            }]);
        }
        if let Some(outliers) = &self.outliers {
            config["outlier_detection"] = outliers.config();
        }
        config["common_lb_config"] = common;
        match &self.source {
            Source::Static => {
                config["type"] = json!("STATIC");
                config["load_assignment"] = self.assignment();
            }
            Source::Dns => {
                config["type"] = json!("STRICT_DNS");
                config["dns_lookup_family"] = json!("ALL");
                config["load_assignment"] = self.assignment();
            }
            Source::Eds { service_name } => {
                config["type"] = json!("EDS");
                config["eds_cluster_config"] = json!({
                    "eds_config": {
                        "path_config_source": {"path": endpoints},
                        "resource_api_version": "V3",
                    },
                });
                if let Some(name) = service_name {
                    config["eds_cluster_config"]["service_name"] = json!(name);
                }
            }
        }
        config
    }

    /// The endpoints.
    pub(super) fn assignment(&self) -> Value {
        let name = match &self.source {
            Source::Eds {
                service_name: Some(name),
            } => name,
            _ => &self.name,
        };
        let mut policy = json!({});
        if let Some(factor) = self.overprovisioning {
            policy["overprovisioning_factor"] = json!(factor);
        }
        if self.weighted_priority_health {
            policy["weighted_priority_health"] = json!(true);
        }
        let mut endpoints: Vec<Value> = self.localities.iter().map(Locality::config).collect();
        let has_first = self
            .localities
            .iter()
            .any(|locality| locality.priority == 0);
        if !endpoints.is_empty() && !has_first && is_older() {
            endpoints.push(json!({"priority": 0}));
        }
        json!({"cluster_name": name, "endpoints": endpoints, "policy": policy})
    }
}

/// Whether this is Envoy 1.36 or 1.37. They crash at a cluster with RING_HASH or MAGLEV that names priorities and
/// not the first, and refuse additional addresses other than those of IP.
fn is_older() -> bool {
    is_before(&programs::asked_envoy().unwrap_or_default(), 39)
}

impl Outliers {
    fn config(&self) -> Value {
        let mut config = json!({
            "consecutive_5xx": self.consecutive_5xx,
            // An ejected host stays ejected.
            "base_ejection_time": "36000s",
            "max_ejection_time": "36000s",
            "interval": "3600s",
            "enforcing_success_rate": 0,
            "successful_active_health_check_uneject_host": self.check_unejects,
            "detect_degraded_hosts": self.degraded,
        });
        if let Some(percent) = self.max_percent {
            config["max_ejection_percent"] = json!(percent);
        }
        // An Envoy refuses fields that it does not know.
        without_newer(config, &programs::asked_envoy().unwrap_or_default())
    }
}

impl Locality {
    fn config(&self) -> Value {
        let [region, zone, sub_zone] = self.place;
        let hosts: Value = self.hosts.iter().map(Host::config).collect();
        let mut config = json!({
            "priority": self.priority,
            "locality": {"region": region, "zone": zone, "sub_zone": sub_zone},
            "lb_endpoints": hosts,
        });
        if let Some(weight) = self.weight {
            config["load_balancing_weight"] = json!(weight);
        }
        config
    }
}

impl Host {
    fn config(&self) -> Value {
        let mut config = json!({
            "endpoint": {
                "address": self.address.config(),
                "hostname": self.hostname,
                "health_check_config": {"disable_active_health_check": self.unchecked},
            },
            "health_status": self.eds_health,
        });
        let has_ip = |address: &Address| matches!(address, Address::Tcp(_) | Address::Scoped(_));
        let is_known = |more: &&Address| !is_older() || (has_ip(more) && has_ip(&self.address));
        if let Some(address) = self.additional.as_ref().filter(is_known) {
            let addresses = json!([{"address": address.config()}]);
            config["endpoint"]["additional_addresses"] = addresses;
        }
        if let Some(weight) = self.weight {
            config["load_balancing_weight"] = json!(weight);
        }
        if let Some(key) = &self.hash_key {
            config["metadata"] = json!({"filter_metadata": {"envoy.lb": {"hash_key": key}}});
        }
        config
    }
}
