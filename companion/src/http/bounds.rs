//! The rules for every request: a bearer token for writes, a quota of concurrent requests, and a
//! timeout.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::App;
use super::answer::{IsFull, Refusal};

/// Most concurrent requests; further ones get 503.
pub const REQUESTS_MAX: usize = 1_024;
/// Most open event streams; further ones get 503.
pub const EVENT_STREAMS_MAX: usize = 128;
/// An idle stream sends a comment after this long.
pub(super) const STREAM_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a request may take until its answer starts.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an unused body that are still read.
pub(super) const UNWANTED_BYTES_MAX: usize = 64 << 20;

/// Lets a write pass only with the bearer token, if one is set.
pub(super) async fn authorize(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if let (false, Some(token)) = (is_read, &app.token) {
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if !given.is_some_and(|given| same(given, token.reveal().as_bytes())) {
            app.metrics.requests_unauthorized.inc();
            let error = match given {
                None => "authorization: a bearer token is needed for this",
                Some(_) => "authorization: this is not this companion's token",
            };
            return Refusal::new(StatusCode::UNAUTHORIZED, error).into_response();
        }
    }
    next.run(request).await
}

/// Compares in constant time, so that the time does not tell where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Bounds concurrent requests, and the time of each.
pub(super) async fn bound(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.requests.try_acquire() else {
        app.metrics.requests_shed.inc();
        let error = format!("busy: {REQUESTS_MAX} requests are under way");
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).into_response();
    };
    let (request, rest) = lend(request);
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => {
            if !response.status().is_success() {
                throw_away(rest).await;
            }
            if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
                app.metrics.requests_too_large.inc();
            }
            if response.extensions().get::<IsFull>().is_some() {
                app.metrics.writes_too_many.inc();
            }
            response
        }
        Err(_) => {
            app.metrics.requests_timed_out.inc();
            let error = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, error).into_response()
        }
    }
}

/// The part of the body that a handler did not read.
type Rest = oneshot::Receiver<BodyDataStream>;

/// A body that returns itself once its handler drops it.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
    /// The client sends the body only once it is asked for (`Expect`).
    is_held: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (false, Some(body), Some(back)) = (self.is_held, self.body.take(), self.back.take())
        {
            // After a successful answer no one waits for it.
            drop(back.send(body));
        }
    }
}

fn lend(request: Request) -> (Request, Rest) {
    let (back, rest) = oneshot::channel();
    let is_held = request.headers().contains_key(header::EXPECT);
    let request = request.map(|body| {
        let lent = Lent {
            body: Some(body.into_data_stream()),
            back: Some(back),
            is_held,
        };
        Body::from_stream(stream::unfold(lent, async |mut lent| {
            lent.is_held = false;
            let part = lent.body.as_mut()?.next().await?;
            Some((part, lent))
        }))
    });
    (request, rest)
}

/// Reads the rest of the client's body. A client that is still sending would get a broken pipe if
/// the connection ended with the answer, and never read the reason.
async fn throw_away(rest: Rest) {
    let reading = async {
        let Ok(mut body) = rest.await else { return };
        let mut left = UNWANTED_BYTES_MAX;
        while let Some(Ok(part)) = body.next().await {
            let Some(less) = left.checked_sub(part.len()) else {
                return;
            };
            left = less;
        }
    };
    // A client that sends for longer does not get the reason.
    tokio::time::timeout(REQUEST_TIMEOUT, reading).await.ok();
}

/// A place in the quota of open event streams.
pub(super) fn stream_permit(app: &App) -> Result<OwnedSemaphorePermit, Refusal> {
    let permit = Arc::clone(&app.event_streams).try_acquire_owned();
    permit.map_err(|_| {
        app.metrics.event_streams_refused.inc();
        let error = "too many event streams are open";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
    })
}

pub(super) async fn not_found(request: Request) -> Refusal {
    Refusal::absent(request.uri().path())
}

pub(super) async fn not_allowed(request: Request) -> Refusal {
    let (method, path) = (request.method(), request.uri().path());
    let error = format!("{method} {path}: method not allowed");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error)
}
