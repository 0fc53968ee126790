//! 01xx: whether the filter and the service's cluster fit. The rules about the cluster's policy are the filter's own.

use serde_json::Value;
use unitring_balancer::settings::Source;
use unitring_balancer::wiring::{Kind, check_policy};

use super::super::code::Code;
use super::super::envoy::{Address, Cluster};
use super::super::finding::{Finding, shown};
use super::super::json::{at, kind, list};
use super::super::services::{Placed, Shell, as_filter_reads};
use super::View;

/// Settings that Envoy refuses.
pub(super) fn settings(view: &View<'_>) -> Vec<Finding> {
    let filters = view.managers.iter().flat_map(|manager| &manager.filters);
    let filters =
        filters.filter_map(|filter| Some((&filter.place, filter.settings.as_ref().err()?)));
    let policies = view.policies.iter();
    let policies =
        policies.filter_map(|policy| Some((&policy.place, policy.settings.as_ref().err()?)));
    let refused = filters.chain(policies).map(|(place, error)| {
        let mend = "correct the field: docs/settings.md lists all of them with their bounds";
        Finding::new(Code::SettingsRefused, place, error, mend)
    });
    refused.collect()
}

/// Whether the clusters that a service needs are there, and its own reads the filter's choice.
pub(super) fn service(view: &View<'_>, service: &Placed<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let name = service.settings.service.as_str();
    let no_service =
        |seen: &str, mend: &str| Finding::new(Code::NoService, &service.place, seen, mend);
    match (&service.shell, view.envoy.cluster(name)) {
        (Shell::Native(policy), _) if policy.cluster != name => found.push(no_service(
            &format!(
                "service {name}: the policy is that of the cluster {}",
                policy.cluster
            ),
            &format!("service: \"{}\"", shown(&policy.cluster)),
        )),
        (_, Some(cluster)) => found.extend(policy(cluster, service)),
        (_, None) if view.envoy.has_more_clusters => {}
        (_, None) => found.push(no_service(
            &format!("service {name}: there is no cluster of this name"),
            "service: orders  # the name of the cluster that the routes lead to",
        )),
    }
    if matches!(service.shell, Shell::Filter(_)) {
        found.extend(discovery(view, service));
    } else {
        found.extend(native_reports(view, service));
    }
    found.extend(companion(view, service));
    found
}

fn policy(cluster: &Cluster, service: &Placed<'_>) -> Vec<Finding> {
    let Shell::Filter(_) = service.shell else {
        return Vec::new();
    };
    let place = cluster.path("load_balancing_policy");
    let read = match as_filter_reads(cluster) {
        Ok(read) => read,
        Err(error) => {
            let seen = format!("cluster {}: {error}", cluster.name);
            let mend = "correct the field: Envoy and the filter cannot read it";
            return vec![Finding::new(Code::SteerHeader, &place, &seen, mend)];
        }
    };
    let found = check_policy(service.settings, &read).into_iter();
    let found = found.filter_map(|(kind, mistake)| {
        let (code, mend) = match kind {
            Kind::SteerHeader => (Code::SteerHeader, steering(&service.settings.steer.header)),
            _ => (Code::FallbackPolicy, FALLBACK.to_owned()),
        };
        let seen = format!("cluster {}: {}", cluster.name, mistake?.seen);
        Some(Finding::new(code, &place, &seen, &mend))
    });
    found.collect()
}

fn steering(header: &str) -> String {
    format!(
        "load_balancing_policy:
  policies:
    - typed_extension_config:
        name: envoy.load_balancing_policies.override_host
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost
          override_host_sources: [{{ header: {header} }}]
          fallback_policy: …  # as in envoy/envoy.yaml"
    )
}

const FALLBACK: &str = "fallback_policy:
  policies:
    - typed_extension_config:
        name: envoy.load_balancing_policies.ring_hash
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash";

/// Whether `discovery.cluster` leads to this Envoy's admin interface.
fn discovery(view: &View<'_>, service: &Placed<'_>) -> Option<Finding> {
    let Source::Admin { cluster: name } = &service.settings.discovery.source else {
        return None;
    };
    let admin = at(&view.envoy.bootstrap, "admin.address.socket_address");
    let admin = admin.map(Address::of);
    let mend = |admin: Option<Address<'_>>| {
        let (host, port) = admin.map_or((None, None), |admin| (admin.host, admin.port));
        let host = host
            .filter(|host| *host != "0.0.0.0" && *host != "::")
            .unwrap_or("127.0.0.1");
        static_cluster(name, host, port.unwrap_or(9901))
    };
    let Some(cluster) = view.envoy.cluster(name) else {
        return (!view.envoy.has_more_clusters).then(|| {
            let seen = format!("discovery.cluster {name}: there is no cluster of this name");
            Finding::new(Code::DiscoveryCluster, &service.place, &seen, &mend(admin))
        });
    };
    let Some(there) = at(&view.envoy.bootstrap, "admin") else {
        let seen = "discovery.source is admin, and there is no admin interface";
        let mend =
            "admin:\n  address: { socket_address: { address: 127.0.0.1, port_value: 9901 } }";
        return Some(Finding::new(Code::DiscoveryCluster, "admin", seen, mend));
    };
    let admin = admin.or_else(|| {
        at(there, "address").map(|_| Address {
            host: None,
            port: None,
        })
    })?;
    // An address that is not written, as a pipe's, is not compared.
    let mut endpoints = cluster.endpoints().filter(|one| one.host.is_some());
    let first = endpoints.next()?;
    if first.may_reach(&admin) || admin.host.is_none() {
        return None;
    }
    let seen = format!(
        "cluster {name}: leads to {}, the admin interface is at {}",
        first.shown(),
        admin.shown()
    );
    let place = cluster.path("load_assignment");
    Some(Finding::new(
        Code::DiscoveryCluster,
        &place,
        &seen,
        &mend(Some(admin)),
    ))
}

fn companion(view: &View<'_>, service: &Placed<'_>) -> Option<Finding> {
    let companion = service.settings.companion.as_ref()?;
    let name = &companion.cluster;
    if view.envoy.cluster(name).is_some() || view.envoy.has_more_clusters {
        return None;
    }
    let seen = format!("companion.cluster {name}: there is no cluster of this name");
    let mend = static_cluster(name, "127.0.0.1", 7001);
    Some(Finding::new(
        Code::CompanionCluster,
        &service.place,
        &seen,
        &mend,
    ))
}

/// A cluster of this name with one endpoint, as YAML.
fn static_cluster(name: &str, host: &str, port: u64) -> String {
    let (name, host) = (shown(name), shown(host));
    format!(
        "clusters:
  - name: {name}
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: {name}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }} }}] }}]"
    )
}

/// Whether the native module has the extension by which it reports.
fn native_reports(view: &View<'_>, service: &Placed<'_>) -> Option<Finding> {
    service.settings.companion.as_ref()?;
    let is_reporter = |extension: &Value| {
        at(extension, "typed_config").is_some_and(|config| {
            kind(config) == "DynamicModuleBootstrapExtension"
                && super::super::json::text(config, "extension_name") == Some("unitring")
        })
    };
    if list(&view.envoy.bootstrap, "bootstrap_extensions")
        .iter()
        .any(is_reporter)
    {
        return None;
    }
    let mend = "bootstrap_extensions:
  - name: envoy.bootstrap.dynamic_modules
    typed_config:
      \"@type\": type.googleapis.com/envoy.extensions.bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension
      dynamic_module_config: …  # as in the policy
      extension_name: unitring
      extension_config: { \"@type\": type.googleapis.com/google.protobuf.Struct, value: {} }";
    let seen = "the policy names a companion, and no bootstrap extension reports to it";
    Some(Finding::new(
        Code::NativeReports,
        "bootstrap_extensions",
        seen,
        mend,
    ))
}
