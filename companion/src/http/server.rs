//! Connections → requests.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{mpsc, watch};

use super::guarded::Guarded;
use crate::door::listener::{Arrival, Listener};
use crate::door::patience::{Line, Patient, Phase};

/// Most bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Serves until `stopping` is true and the requests under way have their answers.
pub(crate) async fn serve(listener: Listener, router: Router, mut stopping: watch::Receiver<bool>) {
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    loop {
        let arrival = tokio::select! {
            arrival = listener.next() => arrival,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let (router, stopping, open) = (router.clone(), stopping.clone(), open.clone());
        tokio::spawn(async move {
            requests(arrival, router, stopping).await;
            drop(open);
        });
    }
    // Closed first, so that no client connects in vain.
    drop(listener);
    drop(open);
    all_closed.recv().await;
}

/// The connection of a client, to its end.
async fn requests(arrival: Arrival, router: Router, mut stopping: watch::Receiver<bool>) {
    let Some((stream, peer)) = arrival.agreed().await else {
        return;
    };
    let (peer, line) = (Arc::new(peer), Arc::new(Line::default()));
    let stream = TokioIo::new(Patient::new(
        stream,
        Arc::clone(&line),
        peer.metrics.connections_too_slow.clone(),
    ));
    let service = TowerToHyperService::new(router);
    let ours = Arc::clone(&peer);
    let service = service_fn(move |request: Request<Incoming>| {
        line.set(Phase::Busy);
        let answering = Answering(Arc::clone(&line));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&ours));
        let answer = service.call(request);
        async move {
            let response: Response<Body> = answer.await?;
            let guarded = |body| Body::new(Guarded::new(body, answering));
            Ok::<_, Infallible>(response.map(guarded))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The stream has times of its own.
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(address = %peer.address, %error, "a connection ended");
                }
                return;
            }
            () = peer.place.lost() => return,
            _ = stopping.wait_for(|stopping| *stopping), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The connection waits for its next request once the answer is sent.
struct Answering(Arc<Line>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
    }
}
