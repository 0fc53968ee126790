//! What holds for every request: a token for writes, a bound on requests at a time, a bound on
//! how long one may take.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::answer::{IsFull, Refusal};

/// Requests at a time; one more gets 503.
pub const REQUESTS_MAX: usize = 1_024;
/// Event streams at a time; one more gets 503.
pub const EVENT_STREAMS_MAX: usize = 128;
/// A stream that has nothing to say sends a comment after this long.
pub(super) const STREAM_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a request may take until its answer starts.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Lets a write pass only with the token, once there is one.
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
            let refusal = Refusal::new(
                StatusCode::UNAUTHORIZED,
                "authorization: must be \"Bearer <token>\" with this companion's token",
            );
            return refusal.into_response();
        }
    }
    next.run(request).await
}

/// Compares in a time that does not tell where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Bounds requests at a time and the time of one.
pub(super) async fn bound(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.requests.try_acquire() else {
        app.metrics.requests_shed.inc();
        let error = format!("busy: {REQUESTS_MAX} requests are under way");
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).into_response();
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => {
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

/// A place among the streams that may be open.
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
