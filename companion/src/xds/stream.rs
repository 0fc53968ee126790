//! The requests of a stream and the registry → responses, by Envoy's xDS protocol
//! (`xds_protocol.rst`, state of the world).

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use unitring_protocol::ids::ServiceName;
use unitring_routing::hash::xxh64;

use super::assignment;
use crate::registry::Registry;

/// The resource type of this service.
pub(crate) const TYPE_URL: &str =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Most clusters that an Envoy may subscribe to.
pub(crate) const NAMES_MAX: usize = 4_096;

/// The memory of a name besides its own bytes.
const BYTES_BESIDES: usize = 96;

/// The clusters that an Envoy subscribes to, and the last response.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    /// Each with a hash of its last response, so that a stream keeps no endpoints.
    names: BTreeMap<String, Option<u64>>,
    nonce: u64,
}

/// A request's acknowledgement of the last response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Envoy applied it, or there was none.
    Fine,
    /// Envoy refused it, for this reason. The same response is not sent again.
    Refused(String),
}

/// Why the service ends a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    /// The request is for another type.
    #[error("type_url {0:?}: only {TYPE_URL} is served")]
    Type(String),
    /// The request names too many clusters.
    #[error("resource_names: at most {NAMES_MAX}")]
    TooMany,
    /// A name is longer than that of any service.
    #[error("resource_names: each at most {} bytes", ServiceName::BYTES_MAX)]
    TooLong,
}

impl Subscription {
    /// Handles a request.
    ///
    /// # Errors [`StreamError`], which ends the stream.
    pub(crate) fn hear(&mut self, request: &DiscoveryRequest) -> Result<Heard, StreamError> {
        if !matches!(request.type_url.as_str(), "" | TYPE_URL) {
            return Err(StreamError::Type(request.type_url.clone()));
        }
        if request.resource_names.len() > NAMES_MAX {
            return Err(StreamError::TooMany);
        }
        let is_long = |name: &String| name.len() > ServiceName::BYTES_MAX;
        if request.resource_names.iter().any(is_long) {
            return Err(StreamError::TooLong);
        }
        if !request.response_nonce.is_empty() && request.response_nonce != self.nonce.to_string() {
            // It answers an older response; the answer to the last one is on its way.
            return Ok(Heard::Fine);
        }
        let names = request.resource_names.iter().cloned();
        self.names = names
            .map(|name| {
                let sent = self.names.get(&name).copied().flatten();
                (name, sent)
            })
            .collect();
        match &request.error_detail {
            Some(error) => Ok(Heard::Refused(error.message.clone())),
            None => Ok(Heard::Fine),
        }
    }

    /// About how many bytes of memory the names take.
    pub(crate) fn bytes(&self) -> usize {
        let of = |name: &String| name.len() + BYTES_BESIDES;
        self.names.keys().map(of).sum()
    }

    /// The resources that changed since they were last sent, if any.
    pub(crate) fn respond(&mut self, registry: &Registry) -> Option<DiscoveryResponse> {
        let mut resources = Vec::new();
        for (name, sent) in &mut self.names {
            let value = assignment::of(registry, name).encode_to_vec();
            let hash = Some(xxh64(&value));
            if *sent == hash {
                continue;
            }
            *sent = hash;
            resources.push(Any {
                type_url: TYPE_URL.to_owned(),
                value,
            });
        }
        if resources.is_empty() {
            return None;
        }
        self.nonce += 1;
        Some(DiscoveryResponse {
            version_info: registry.revision.to_string(),
            resources,
            type_url: TYPE_URL.to_owned(),
            nonce: self.nonce.to_string(),
            ..DiscoveryResponse::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registered;
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use envoy_types::pb::google::rpc::Status;

    fn request(names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: names.iter().map(ToString::to_string).collect(),
            response_nonce: nonce.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    fn registry(revision: u64, ports: &[u16]) -> Registry {
        let instances = ports.iter().map(|port| {
            let id = format!("10.0.0.1:{port}");
            let registered = Registered {
                address: id.parse().unwrap(),
                id: id.parse().unwrap(),
                weight: 3.try_into().unwrap(),
                draining: false,
                expires_ms: None,
            };
            (registered.id.clone(), registered)
        });
        let services = [("orders".parse().unwrap(), instances.collect())].into();
        Registry { revision, services }
    }

    fn sent(response: Option<DiscoveryResponse>) -> Vec<(String, usize)> {
        let resources = response
            .map(|response| response.resources)
            .unwrap_or_default();
        let decode = |any: Any| ClusterLoadAssignment::decode(any.value.as_slice()).unwrap();
        resources
            .into_iter()
            .map(decode)
            .map(|it| {
                let endpoints = it.endpoints.iter().map(|at| at.lb_endpoints.len()).sum();
                (it.cluster_name, endpoints)
            })
            .collect()
    }

    #[test]
    fn an_unknown_service_is_empty_and_only_what_changed_is_sent_again() {
        let mut stream = Subscription::default();
        assert_eq!(stream.respond(&registry(1, &[1])), None);
        stream.hear(&request(&["orders", "carts"], "")).unwrap();
        let first = sent(stream.respond(&registry(1, &[1])));
        assert_eq!(first, [("carts".to_owned(), 0), ("orders".to_owned(), 1)]);
        stream.hear(&request(&["orders", "carts"], "1")).unwrap();
        assert_eq!(stream.respond(&registry(1, &[1])), None);
        let second = sent(stream.respond(&registry(2, &[1, 2])));
        assert_eq!(second, [("orders".to_owned(), 2)]);
    }

    #[test]
    fn a_cluster_of_any_name_gets_the_endpoints_of_the_service_of_that_name() {
        for name in crate::store::contract::NAMES {
            let mut registry = registry(1, &[1, 2]);
            let instances = registry.services.pop_first().unwrap().1;
            registry.services.insert(name.parse().unwrap(), instances);
            let mut stream = Subscription::default();
            stream.hear(&request(&[name], "")).unwrap();
            assert_eq!(sent(stream.respond(&registry)), [(name.to_owned(), 2)]);
        }
    }

    #[test]
    fn a_refused_assignment_is_told_and_not_sent_again() {
        let mut stream = Subscription::default();
        stream.hear(&request(&["orders"], "")).unwrap();
        stream.respond(&registry(1, &[1])).unwrap();
        let refusal = DiscoveryRequest {
            error_detail: Some(Status {
                message: "no".to_owned(),
                ..Status::default()
            }),
            ..request(&["orders"], "1")
        };
        assert_eq!(stream.hear(&refusal), Ok(Heard::Refused("no".to_owned())));
        assert_eq!(stream.respond(&registry(1, &[1])), None);
    }

    #[test]
    fn a_request_that_answers_an_older_response_changes_nothing() {
        let mut stream = Subscription::default();
        stream.hear(&request(&["orders"], "")).unwrap();
        stream.respond(&registry(1, &[1])).unwrap();
        stream.respond(&registry(2, &[1, 2])).unwrap();
        stream.hear(&request(&[], "1")).unwrap();
        assert!(stream.respond(&registry(3, &[1])).is_some());
        let wrong = DiscoveryRequest {
            type_url: "other".to_owned(),
            ..DiscoveryRequest::default()
        };
        assert_eq!(
            stream.hear(&wrong),
            Err(StreamError::Type("other".to_owned()))
        );
    }
}
