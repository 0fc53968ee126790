//! 03xx: whether a dead instance is found out, and whether settings and cluster agree on what follows.

use unitring_balancer::discovery::cluster;
use unitring_balancer::discovery::runtime::Runtime;
use unitring_balancer::wiring::check_outlier_detection;

use super::super::code::Code;
use super::super::envoy::Cluster;
use super::super::finding::Finding;
use super::super::json::{at, list, number};
use super::super::services::{Placed, Shell, as_filter_reads};
use super::View;

/// Envoy's own thresholds.
const PANIC_DEFAULT: u32 = 50;
const OVERPROVISIONING_DEFAULT: u32 = 140;

/// How the health of a service's instances is found out.
pub(super) fn service(view: &View<'_>, service: &Placed<'_>) -> Vec<Finding> {
    let Some(cluster) = view.envoy.cluster(service.settings.service.as_str()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if let Ok(read) = as_filter_reads(cluster) {
        let mistake = check_outlier_detection(
            service.settings,
            &read,
            Runtime::default(),
            view.envoy.hosts(cluster),
        );
        found.extend(mistake.map(|mistake| {
            let seen = format!("cluster {}: {}", cluster.name, mistake.seen);
            let mend = "outlier_detection: { always_eject_one_host: true }  # or a greater max_ejection_percent";
            Finding::new(Code::EjectsNobody, &cluster.path("outlier_detection"), &seen, mend)
        }));
        found.extend(thresholds(service, cluster, &read));
    }
    found.extend(every_error(cluster));
    found.extend(no_detection(service, cluster));
    found
}

/// Where the settings say it, they take precedence over the cluster's; the native module cannot see the cluster's.
fn thresholds(service: &Placed<'_>, cluster: &Cluster, read: &cluster::Cluster) -> Vec<Finding> {
    let health = &service.settings.health;
    let is_native = matches!(service.shell, Shell::Native(_));
    let differs = |field: &str, said: Option<u32>, there: Option<u32>, default: u32| {
        let ours = said.or(is_native.then_some(default))?;
        let theirs = there.unwrap_or(default);
        (ours != theirs).then(|| {
            let seen = format!("health.{field} is {ours}, and the cluster {} has {theirs}", cluster.name);
            let mend = match is_native {
                true => format!("health: {{ {field}: {theirs} }}  # in the policy's settings"),
                false => format!("health: {{}}  # without {field}: the filter then follows the cluster, or health: {{ {field}: {theirs} }}"),
            };
            Finding::new(Code::Thresholds, &service.place, &seen, &mend)
        })
    };
    let panic = differs(
        "panic_threshold",
        health.panic_threshold,
        read.panic_threshold,
        PANIC_DEFAULT,
    );
    let factor = differs(
        "overprovisioning_factor",
        health.overprovisioning_factor,
        read.overprovisioning_factor,
        OVERPROVISIONING_DEFAULT,
    );
    // The policy of an EDS cluster comes with its endpoints.
    let factor = factor.filter(|_| !read.by_eds);
    panic.into_iter().chain(factor).collect()
}

/// Whether any answer of 500 counts towards an ejection.
fn every_error(cluster: &Cluster) -> Option<Finding> {
    let outlier = at(&cluster.json, "outlier_detection")?;
    // Envoy's default enforces it always.
    let enforced = number(outlier, "enforcing_consecutive_5xx").unwrap_or(100);
    if enforced == 0 || number(outlier, "consecutive_5xx") == Some(0) {
        return None;
    }
    let seen = format!(
        "cluster {}: enforcing_consecutive_5xx is {enforced}, Envoy's default is 100",
        cluster.name
    );
    let mend = "outlier_detection:
  consecutive_gateway_failure: 5  # 502, 503, 504 and failed connections
  enforcing_consecutive_gateway_failure: 100
  enforcing_consecutive_5xx: 0";
    Some(Finding::new(
        Code::EveryError,
        &cluster.path("outlier_detection"),
        &seen,
        mend,
    ))
}

fn no_detection(service: &Placed<'_>, cluster: &Cluster) -> Option<Finding> {
    let is_checked = !list(&cluster.json, "health_checks").is_empty()
        || at(&cluster.json, "outlier_detection").is_some();
    let ejects = matches!(service.shell, Shell::Filter(_)) && service.settings.ejection.is_some();
    // With EDS, instances that no longer register are removed.
    if is_checked || ejects || cluster.kind() == "EDS" {
        return None;
    }
    let seen = format!(
        "cluster {}: there are neither health_checks nor outlier_detection, and the filter ejects nobody",
        cluster.name
    );
    let mend = "health_checks:
  - { timeout: 1s, interval: 1s, unhealthy_threshold: 2, healthy_threshold: 1, http_health_check: { path: /healthz } }";
    Some(Finding::new(
        Code::NoDetection,
        &cluster.path("health_checks"),
        &seen,
        mend,
    ))
}
