//! 04xx: whether other clients may reach the admin interface and the companion, or read their traffic.

use std::collections::BTreeSet;

use unitring_balancer::settings::Source;

use super::super::code::Code;
use super::super::envoy::{Address, Cluster};
use super::super::finding::Finding;
use super::super::json::{at, kind, list, text};
use super::super::services::{Placed, Shell};
use super::View;
use super::wasm::ways_to;

/// Whether the admin interface is for this host alone.
pub(super) fn admin(view: &View<'_>, services: &[Placed<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(admin) = at(&view.envoy.bootstrap, "admin") else {
        return found;
    };
    if let Some(socket) = at(admin, "address.socket_address") {
        let address = Address::of(socket);
        if !address.is_local() {
            let seen = format!("the admin interface listens on {}", address.shown());
            let mend = format!(
                "admin:\n  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}",
                address.port.unwrap_or(9901)
            );
            found.push(Finding::new(
                Code::AdminExposed,
                "admin.address",
                &seen,
                &mend,
            ));
        }
    }
    let by_admin =
        |service: &&Placed<'_>| matches!(service.settings.discovery.source, Source::Admin { .. });
    let uses = services
        .iter()
        .filter(|service| matches!(service.shell, Shell::Filter(_)));
    if list(admin, "allow_paths").is_empty() && uses.filter(by_admin).count() > 0 {
        let mend = "admin:
  allow_paths:  # not in Envoy 1.36
    - prefix: /clusters
    - prefix: /config_dump
    - exact: /runtime
    - prefix: /stats
    - exact: /ready
    - exact: /server_info";
        let seen = "there is no allow_paths, and the cluster of discovery.cluster leads here";
        found.push(Finding::new(Code::AdminUnbounded, "admin", seen, mend));
    }
    found.extend(routed(view, services));
    found
}

/// Routes to the cluster by which the filter reads the admin interface.
fn routed(view: &View<'_>, services: &[Placed<'_>]) -> Vec<Finding> {
    let clusters = services
        .iter()
        .filter_map(|service| match &service.settings.discovery.source {
            Source::Admin { cluster } => Some(cluster.as_str()),
            _ => None,
        });
    let clusters: BTreeSet<&str> = clusters.collect();
    let mut found = Vec::new();
    for cluster in clusters {
        for place in ways_to(view, cluster) {
            let seen = format!("leads to the cluster {cluster}, which is the admin interface");
            let mend = "no route to this cluster: only the filter uses it";
            found.push(Finding::new(Code::AdminRouted, &place, &seen, mend));
        }
    }
    found
}

/// Checks that traffic to a companion on another host is encrypted, and has a credential.
pub(super) fn service(view: &View<'_>, service: &Placed<'_>) -> Vec<Finding> {
    let Some(companion) = &service.settings.companion else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let discovering = view.envoy.cluster(service.settings.service.as_str());
    let discovering = discovering.and_then(eds_cluster);
    let names = std::iter::once(companion.cluster.as_str()).chain(discovering);
    for cluster in names.filter_map(|name| view.envoy.cluster(name)) {
        let Some(remote) = cluster.endpoints().find(|address| !address.is_local()) else {
            continue;
        };
        if !is_encrypted(cluster) {
            let seen = format!(
                "cluster {}: leads to {} without a transport_socket",
                cluster.name,
                remote.shown()
            );
            let mend =
                "transport_socket: …  # as in envoy/tls.yaml: docs/security.md#tls-step-by-step";
            found.push(Finding::new(
                Code::CompanionPlaintext,
                &cluster.path("transport_socket"),
                &seen,
                mend,
            ));
        }
        let is_reporting = cluster.name == companion.cluster;
        if is_reporting && companion.token.is_empty() && !shows_certificate(cluster) {
            let seen = format!(
                "cluster {}: leads to {}, and there is neither companion.token nor a client certificate",
                cluster.name,
                remote.shown()
            );
            let mend = "companion: { token: … }  # with the role report: docs/security.md#the-filters-token";
            found.push(Finding::new(
                Code::CompanionAnonymous,
                &service.place,
                &seen,
                mend,
            ));
        }
    }
    found
}

/// The cluster from which another one gets its endpoints.
fn eds_cluster(cluster: &Cluster) -> Option<&str> {
    let services = list(
        &cluster.json,
        "eds_cluster_config.eds_config.api_config_source.grpc_services",
    );
    services
        .iter()
        .find_map(|service| text(service, "envoy_grpc.cluster_name"))
}

fn is_encrypted(cluster: &Cluster) -> bool {
    let socket = at(&cluster.json, "transport_socket.typed_config");
    socket.is_some_and(|socket| kind(socket) != "RawBuffer")
        || at(&cluster.json, "transport_socket_matches").is_some()
}

fn shows_certificate(cluster: &Cluster) -> bool {
    let common = at(
        &cluster.json,
        "transport_socket.typed_config.common_tls_context",
    );
    common.is_some_and(|common| {
        ["tls_certificates", "tls_certificate_sds_secret_configs"]
            .iter()
            .any(|field| !list(common, field).is_empty())
    })
}
