//! The steps of every request before its handler: permission, its body, its place among the requests at work, and
//! its time limit.
//!
//! The order is the point. A request is refused from its head alone, and its body is read before it takes a place:
//! so neither a stranger nor a slow sender holds a place that other clients need.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;

use super::App;
use super::answer::{IsFull, Refusal};
use super::guarded::Guarded;
use crate::clock::{self, now_ms};
use crate::door::budget::EVENT_STREAMS_MAX;
use crate::door::credentials::{Denied, Principal};
use crate::door::kept::Share;
use crate::door::listener::{LetIn, Peer};
use crate::door::need::{Need, need};
use crate::door::{Caller, site};

/// An idle stream sends a comment after this long.
pub(super) const STREAM_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a request may take from when it is read until its answer starts.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long its body may take.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of bodies that are being read, over all requests. The first of each body do not count, so that
/// reports and heartbeats always pass.
pub(crate) const BODIES_BYTES_MAX: usize = 256 << 20;
/// Most bytes of answers that are not read yet, over all requests; the first of each do not count either.
pub(crate) const ANSWERS_BYTES_MAX: usize = 256 << 20;
/// These first bytes.
const UNCOUNTED_BYTES: usize = 64 << 10;
/// Most bytes of an unused body that are still read, so that its sender sees the answer.
const UNWANTED_BYTES_MAX: usize = 64 << 20;
/// The same for a client that is refused, and for how long.
const STRANGERS_BYTES_MAX: usize = 1 << 20;
const STRANGERS_TIME: Duration = Duration::from_millis(250);

/// Resources that a request holds until it is answered: its place among the requests at work, and its body's bytes.
/// Work that goes on after its client is gone keeps a copy.
#[derive(Debug, Clone)]
pub(super) struct Held {
    _place_and_bytes: Arc<(Share, Share)>,
}

/// Lets a request in, and measures how long it takes until its answer begins.
pub(super) async fn enter(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = clock::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = pass(&app, request, next).await;
    app.metrics.request_duration_seconds.took(
        method.as_str(),
        route.as_ref().map(MatchedPath::as_str),
        response.status().as_u16(),
        clock::since(began),
    );
    response
}

async fn pass(app: &Arc<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let is_held = parts.headers.contains_key(header::EXPECT);
    let Some(peer) = parts.extensions.get::<Arc<Peer>>().cloned() else {
        // Every connection has one.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let rules = app.rules.borrow().clone();
    let path = parts.uri.path().to_owned();
    let need = need(&parts.method, &path);
    let refusal = match site::check(&parts.method, &parts.headers, &rules.host_names) {
        Err(foreign) => {
            app.metrics.requests_foreign.inc();
            Err(Refusal::new(foreign.status(), foreign.to_string()))
        }
        Ok(()) => {
            let given = parts.headers.get(header::AUTHORIZATION);
            let given = given.map(|value| value.as_bytes());
            let who = rules.keyring.admit(given, &peer.certificate_names, &need);
            who.map_err(|denied| refused(app, &denied))
        }
    };
    let who = match refusal {
        Ok(who) => who,
        Err(refusal) => {
            if !is_held {
                throw_away(body, STRANGERS_BYTES_MAX, STRANGERS_TIME).await;
            }
            let status = refusal.status();
            let mut response = refusal.into_response();
            let headers = response.headers_mut();
            if status == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            // A connection for each refusal, so that thousands of them on one do not keep a core busy.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
    };
    let caller = Caller {
        who,
        address: peer.address.ip().into(),
    };
    // A client with a credential keeps its connection while it sends; a stranger only once it has sent all.
    let principal = caller.principal();
    let mut let_in = caller.is_known().then(|| LetIn::new(&peer, &principal));
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let share = app.bodies.share(principal.clone());
    let (bytes, body_share) = match read(body, length, is_held, &need, share).await {
        Ok(read) => read,
        Err(unread) => return unread.answer(app, &need),
    };
    let taken = app
        .budget
        .take(need.kind, &caller, rules.keyring.is_needed());
    let Some(place) = taken else {
        return shed(app, "too many requests are under way");
    };
    // Readiness is open to all clients, so a request for it proves nothing about its sender.
    let may_prove = !need.is_open && (caller.is_known() || !rules.keyring.is_needed());
    // A stranger's connection may always be displaced.
    if may_prove && let_in.is_none() {
        let_in = Some(LetIn::new(&peer, &principal));
    }
    let held = Held {
        _place_and_bytes: Arc::new((place, body_share)),
    };
    parts.extensions.insert(caller);
    parts.extensions.insert(held.clone());
    let request = Request::from_parts(parts, Body::from(bytes));
    let started = clock::now();
    let mut response = answered(app, request, next).await;
    if need.is_read() {
        tells_its_time(&mut response, clock::since(started));
    }
    let mut answer_share = app.answers.share(principal);
    let counted = response.body().size_hint().exact().unwrap_or(0);
    let counted = usize::try_from(counted).unwrap_or(usize::MAX);
    if !answer_share.set(counted.saturating_sub(UNCOUNTED_BYTES)) {
        return shed(app, "too many bytes of answers wait to be read");
    }
    if may_prove && response.status().is_success() {
        peer.place.proves();
    }
    drop(held);
    response.map(|body| Body::new(Guarded::new(body, (let_in, answer_share))))
}

/// Says in the answer how long the handler took, so that a client that polls, as the console does, knows the cost of
/// its requests. The time before the handler, such as for credentials, is not counted.
fn tells_its_time(response: &mut Response, taken: Duration) {
    let text = format!("app;dur={:.1}", taken.as_secs_f64() * 1_000.0);
    if let Ok(value) = HeaderValue::try_from(text) {
        let name = HeaderName::from_static("server-timing");
        response.headers_mut().insert(name, value);
    }
}

/// The handler's answer, in time.
async fn answered(app: &App, request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => {
            if response.extensions().get::<IsFull>().is_some() {
                app.metrics.writes_too_many.inc();
            }
            response
        }
        Err(_) => {
            app.metrics.requests_timed_out.inc();
            app.strain.felt(now_ms());
            let error = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, error).into_response()
        }
    }
}

fn refused(app: &App, denied: &Denied) -> Refusal {
    app.metrics.requests_unauthorized.inc();
    let status = match denied {
        Denied::Unknown | Denied::Wrong => StatusCode::UNAUTHORIZED,
        Denied::Forbidden(_) => StatusCode::FORBIDDEN,
    };
    Refusal::new(status, denied.to_string())
}

fn shed(app: &App, why: &str) -> Response {
    app.metrics.requests_shed.inc();
    app.strain.felt(now_ms());
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("busy: {why}"));
    let mut response = refusal.into_response();
    let after = HeaderValue::from_static("1");
    response.headers_mut().insert(header::RETRY_AFTER, after);
    response
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    TooSlow,
    NoRoom,
    Broken(String),
}

impl Unread {
    fn answer(&self, app: &App, need: &Need<'_>) -> Response {
        let (status, error) = match self {
            Self::TooLarge => {
                app.metrics.requests_too_large.inc();
                let error = format!("body: must be at most {} bytes", need.body_max);
                (StatusCode::PAYLOAD_TOO_LARGE, error)
            }
            Self::TooSlow => {
                app.metrics.requests_timed_out.inc();
                let error = format!("body: did not end within {} s", BODY_TIMEOUT.as_secs());
                (StatusCode::REQUEST_TIMEOUT, error)
            }
            Self::NoRoom => return shed(app, "too many bytes of bodies are being read"),
            Self::Broken(why) => (StatusCode::BAD_REQUEST, format!("body: {why}")),
        };
        Refusal::new(status, error).into_response()
    }
}

/// Reads a body to its end, and holds a share of the bytes of all bodies for it.
async fn read(
    body: Body,
    length: Option<u64>,
    is_held: bool,
    need: &Need<'_>,
    mut share: Share,
) -> Result<(Bytes, Share), Unread> {
    let max = need.body_max;
    let is_known_too_large = length.is_some_and(|length| length > max as u64);
    if is_known_too_large && is_held {
        return Err(Unread::TooLarge);
    }
    let mut parts = body.into_data_stream();
    let reading = async {
        let (mut whole, mut read) = (Vec::new(), 0_usize);
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| Unread::Broken(error.to_string()))?;
            read = read.saturating_add(part.len());
            if read > UNWANTED_BYTES_MAX {
                return Err(Unread::TooLarge);
            }
            // The rest is read and thrown away: a client that is still sending would get a broken pipe if the
            // connection ended with the answer, and never read the reason.
            if is_known_too_large || read > max {
                whole = Vec::new();
                continue;
            }
            let counted = read.saturating_sub(UNCOUNTED_BYTES);
            if counted > 0 && !share.set(counted) {
                return Err(Unread::NoRoom);
            }
            whole.extend_from_slice(&part);
        }
        match is_known_too_large || read > max {
            true => Err(Unread::TooLarge),
            false => Ok(Bytes::from(whole)),
        }
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    let bytes = read.unwrap_or(Err(Unread::TooSlow))?;
    Ok((bytes, share))
}

/// Reads what is left of a body, for a while.
async fn throw_away(body: Body, mut left: usize, time: Duration) {
    let mut parts = body.into_data_stream();
    let reading = async {
        while let Some(Ok(part)) = parts.next().await {
            let Some(less) = left.checked_sub(part.len()) else {
                return;
            };
            left = less;
        }
    };
    // A client that sends for longer does not get the reason.
    tokio::time::timeout(time, reading).await.ok();
}

/// A place among the open event streams.
pub(super) fn stream_place(app: &App, caller: &Caller) -> Result<Share, Refusal> {
    let place = app.event_streams.place(caller.principal());
    place.ok_or_else(|| {
        app.metrics.event_streams_refused.inc();
        let whose = match caller.principal() {
            Principal::Address(_) => "this address".to_owned(),
            credential => credential.to_string(),
        };
        let error = format!(
            "too many event streams are open: {EVENT_STREAMS_MAX}, or half of them for {whose}"
        );
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
