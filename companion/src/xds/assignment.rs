//! Registered instances → Envoy's endpoints.

use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::google::protobuf::UInt32Value;

use crate::registry::{Registered, Registry};

/// The endpoints of a service, in order of instance id; none if the registry does not know it.
pub(crate) fn of(registry: &Registry, service: &str) -> ClusterLoadAssignment {
    let endpoints: Vec<LbEndpoint> = registry.instances(service).map(endpoint).collect();
    let localities = if endpoints.is_empty() {
        Vec::new()
    } else {
        vec![LocalityLbEndpoints {
            lb_endpoints: endpoints,
            ..LocalityLbEndpoints::default()
        }]
    };
    ClusterLoadAssignment {
        cluster_name: service.to_owned(),
        endpoints: localities,
        ..ClusterLoadAssignment::default()
    }
}

fn endpoint(instance: &Registered) -> LbEndpoint {
    let address = SocketAddress {
        address: instance.address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(instance.address.port().into())),
        ..SocketAddress::default()
    };
    let endpoint = Endpoint {
        address: Some(Address {
            address: Some(AddressKind::SocketAddress(address)),
        }),
        // A filter that places by id uses it as the id.
        hostname: instance.id.to_string(),
        ..Endpoint::default()
    };
    let health = if instance.draining {
        HealthStatus::Draining
    } else {
        HealthStatus::Unknown
    };
    LbEndpoint {
        health_status: health.into(),
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        load_balancing_weight: Some(UInt32Value {
            value: instance.weight.get(),
        }),
        ..LbEndpoint::default()
    }
}
