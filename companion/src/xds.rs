//! Registry → Envoy: gRPC endpoint discovery (EDS), state of the world.
//!
//! Invariant: an Envoy gets only endpoints that were read from the registry, never an empty answer because a
//! read failed. A service that the registry does not know has no endpoints, so that Envoy finishes
//! warming its cluster. Incremental discovery is not implemented.
//!
//! | module | arrow |
//! |---|---|
//! | [`assignment`] | registered instances → Envoy's endpoints (pure) |
//! | [`stream`] | requests and changes → responses (pure) |
//! | `connection` | a connection of the listening address → one that the gRPC server takes |

pub(crate) mod assignment;
mod connection;
pub(crate) mod stream;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_server::{
    EndpointDiscoveryService, EndpointDiscoveryServiceServer,
};
use futures::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::timer;
use crate::door::credentials::{Denied, Role};
use crate::door::kept::{Kept, Share};
use crate::door::listener::{LetIn, Listener, Peer};
use crate::door::need::{Kind, Need, Scope};
use crate::door::{Caller, InForce};
use crate::metrics::Metrics;
use crate::registry::Registry;
use stream::{Heard, Subscription};

/// Most open streams, half of them for one client; a further Envoy is refused, and tries again.
pub(crate) const STREAMS_MAX: usize = 4_096;
/// Most bytes of the names that all streams subscribe to, half of them for one client.
pub(crate) const NAMES_BYTES_MAX: usize = 64 << 20;
/// How often an idle connection is asked whether its Envoy is still there, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Most streams of a connection; an Envoy with more opens another.
const CONNECTION_STREAMS_MAX: u32 = 128;
/// Most bytes of a request, which has the names of all clusters.
pub(crate) const REQUEST_BYTES_MAX: usize = 1 << 20;
/// How long a stream may take until it subscribes.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after this many refused streams.
const REFUSALS_MAX: u32 = 32;
/// How often a stream's refusals of endpoints are logged.
const NACK_LOGGED_EVERY: Duration = Duration::from_secs(60);
/// Most bytes of the headers of a stream.
const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// The last registry that was read; `None` before the first read.
pub(crate) type Followed = watch::Receiver<Option<Arc<Registry>>>;

/// Serves until `stopping` is true.
///
/// # Errors Those of the server.
pub(crate) async fn serve(
    listener: Listener,
    registry: Followed,
    rules: InForce,
    mut stopping: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) -> Result<(), tonic::transport::Error> {
    let guard = Guard {
        rules,
        metrics: Arc::clone(&metrics),
    };
    // Before a byte of a message is read.
    let admit = move |request: Request<()>| guard.admit(request);
    let discovery = Discovery {
        registry,
        stopping: stopping.clone(),
        metrics,
        streams: Kept::new(STREAMS_MAX),
        names: Kept::new(NAMES_BYTES_MAX),
    };
    let service =
        EndpointDiscoveryServiceServer::new(discovery).max_decoding_message_size(REQUEST_BYTES_MAX);
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .add_service(InterceptedService::new(service, admit))
        .serve_with_incoming_shutdown(connection::incoming(listener), async move {
            if stopping.wait_for(|stopping| *stopping).await.is_err() {
                tracing::debug!("the sender of the stop signal is gone; endpoint discovery stops");
            }
        })
        .await
}

struct Discovery {
    registry: Followed,
    stopping: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    streams: Arc<Kept>,
    names: Arc<Kept>,
}

/// The need of a stream: the same as that of reading the instances of a service.
const NEED: Need<'static> = Need {
    roles: &[Role::Report, Role::Read],
    scope: Scope::All,
    kind: Kind::Read,
    body_max: 0,
    is_open: false,
};

/// Identifies the client of a stream, and decides whether it may open it.
#[derive(Clone)]
struct Guard {
    rules: InForce,
    metrics: Arc<Metrics>,
}

impl Guard {
    fn admit(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("a connection without an address"))?;
        let given = request.metadata().get("authorization");
        let given = given.map(|value| value.as_encoded_bytes());
        let rules = self.rules.borrow();
        let who = rules.keyring.admit(given, &peer.certificate_names, &NEED);
        let who = who.map_err(|denied| {
            self.metrics.requests_unauthorized.inc();
            if peer.refuse() >= REFUSALS_MAX {
                peer.place.end();
            }
            match denied {
                Denied::Forbidden(_) => Status::permission_denied(denied.to_string()),
                Denied::Unknown | Denied::Wrong => Status::unauthenticated(denied.to_string()),
            }
        })?;
        drop(rules);
        let address = peer.address.ip().into();
        request.extensions_mut().insert(Caller { who, address });
        Ok(request)
    }
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
        let extensions = request.extensions();
        let peer = extensions.get::<Arc<Peer>>().cloned();
        let caller = extensions.get::<Caller>();
        let (Some(peer), Some(caller)) = (peer, caller) else {
            return Err(Status::internal("a stream that nobody let in"));
        };
        let principal = caller.principal();
        let place = self.streams.place(principal.clone()).ok_or_else(|| {
            self.metrics.xds_streams_refused.inc();
            Status::resource_exhausted("too many streams")
        })?;
        let let_in = LetIn::new(&peer, &principal);
        peer.place.proves();
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
            has_asked: false,
            since: timer(),
            nack_logged: None,
            names: self.names.share(principal),
            address: peer.address,
            _let_in: let_in,
            _place: place,
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
    /// Whether it has subscribed.
    has_asked: bool,
    /// When it began.
    since: Instant,
    nack_logged: Option<Instant>,
    names: Share,
    address: SocketAddr,
    _let_in: LetIn,
    _place: Share,
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
            let end = self.since + FIRST_TIMEOUT;
            tokio::select! {
                () = sleep_until(end), if !self.has_asked => {
                    let error = "no request within 10 s";
                    return Some(Err(Status::deadline_exceeded(error)));
                }
                request = self.requests.message() => match request {
                    Ok(Some(request)) => match self.subscription.hear(&request) {
                        Ok(_) if !self.names.set(self.subscription.bytes()) => {
                            self.metrics.xds_streams_refused.inc();
                            let error = "too many bytes of resource_names over all streams";
                            return Some(Err(Status::resource_exhausted(error)));
                        }
                        Ok(Heard::Fine) => self.has_asked = true,
                        Ok(Heard::Refused(why)) => {
                            self.metrics.xds_nacks.inc();
                            let (last, now) = (self.nack_logged, timer());
                            if last.is_none_or(|last| now - last >= NACK_LOGGED_EVERY) {
                                self.nack_logged = Some(now);
                                let address = self.address;
                                tracing::warn!(%address, ?why, "an Envoy refused its endpoints");
                            }
                        }
                        Err(error) => {
                            self.metrics.xds_streams_refused.inc();
                            return Some(Err(Status::invalid_argument(error.to_string())));
                        }
                    },
                    Ok(None) => return None,
                    Err(status) => {
                        tracing::debug!(%status, "an Envoy closed its stream");
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
