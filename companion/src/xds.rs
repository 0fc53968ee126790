//! Registry → Envoy: gRPC endpoint discovery (EDS), state of the world.
//!
//! Invariant: an Envoy gets only what was read from the registry, never an empty answer because a
//! read failed. A service that the registry does not know has no endpoints, so that Envoy finishes
//! warming its cluster. Incremental discovery is not implemented.
//!
//! | module | arrow |
//! |---|---|
//! | [`assignment`] | registered instances → Envoy's endpoints (pure) |
//! | [`stream`] | requests and changes → responses (pure) |

pub mod assignment;
pub mod stream;

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_server::{
    EndpointDiscoveryService, EndpointDiscoveryServiceServer,
};
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::metrics::Metrics;
use crate::registry::Registry;
use stream::{Heard, Subscription};

/// Most open streams; a further Envoy is refused, and tries again.
pub const STREAMS_MAX: usize = 4_096;

/// The last registry that was read; `None` before the first read.
pub type Followed = watch::Receiver<Option<Arc<Registry>>>;

/// Serves until `stopping` is true.
///
/// # Errors Those of the server.
pub async fn serve(
    listener: TcpListener,
    registry: Followed,
    mut stopping: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) -> Result<(), tonic::transport::Error> {
    let discovery = Discovery {
        registry,
        stopping: stopping.clone(),
        metrics,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    Server::builder()
        .add_service(EndpointDiscoveryServiceServer::new(discovery))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), async move {
            if stopping.wait_for(|stopping| *stopping).await.is_err() {
                tracing::debug!("nobody left to say stop");
            }
        })
        .await
}

struct Discovery {
    registry: Followed,
    stopping: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    streams: Arc<Semaphore>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl EndpointDiscoveryService for Discovery {
    type StreamEndpointsStream = Responses<DiscoveryResponse>;
    type DeltaEndpointsStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_endpoints(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamEndpointsStream>, Status> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit.map_err(|_| {
            self.metrics.xds_streams_refused.inc();
            Status::resource_exhausted("too many streams")
        })?;
        let mut registry = self.registry.clone();
        // The present registry counts as a change for a new stream.
        registry.mark_changed();
        self.metrics.xds_streams.inc();
        let follower = Follower {
            requests: request.into_inner(),
            registry,
            stopping: self.stopping.clone(),
            metrics: Arc::clone(&self.metrics),
            subscription: Subscription::default(),
            _permit: permit,
        };
        let responses = futures::stream::unfold(follower, |mut follower| async move {
            let response = follower.next().await?;
            Some((response, follower))
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn delta_endpoints(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaEndpointsStream>, Status> {
        Err(Status::unimplemented(
            "incremental discovery: not supported yet; use api_type GRPC",
        ))
    }

    async fn fetch_endpoints(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented(
            "polling: not supported; use api_type GRPC",
        ))
    }
}

/// The stream of an Envoy.
struct Follower {
    requests: Streaming<DiscoveryRequest>,
    registry: Followed,
    stopping: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    subscription: Subscription,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.metrics.xds_streams.dec();
    }
}

impl Follower {
    /// The next response; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Result<DiscoveryResponse, Status>> {
        loop {
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => match self.subscription.hear(&request) {
                        Ok(Heard::Fine) => {}
                        Ok(Heard::Refused(why)) => {
                            self.metrics.xds_nacks.inc();
                            tracing::warn!(%why, "an Envoy refused its endpoints");
                        }
                        Err(error) => {
                            self.metrics.xds_streams_refused.inc();
                            return Some(Err(Status::invalid_argument(error.to_string())));
                        }
                    },
                    Ok(None) => return None,
                    Err(status) => {
                        tracing::debug!(%status, "an Envoy left");
                        return None;
                    }
                },
                changed = self.registry.changed() => if changed.is_err() { return None },
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
            let registry = self.registry.borrow_and_update().clone();
            let Some(registry) = registry else { continue };
            if let Some(response) = self.subscription.respond(&registry) {
                self.metrics.xds_pushes.inc();
                return Some(Ok(response));
            }
        }
    }
}
