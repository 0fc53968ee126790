//! Each request's id: the client's or a new one. It is in the answer, and in all log lines of the request. A traced
//! request is a span, too, and its lines have the trace's id.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::App;
use super::answer::Why;
use crate::clock::now_ms;
use crate::door::listener::Peer;
use crate::trace::{self, Work};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The span of the client that asks, as W3C Trace Context has it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The longest id that is taken from a client.
const ID_BYTES_MAX: usize = 128;

/// A random number of this process, so that the ids of two processes differ.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The id of a request: visible ASCII.
#[derive(Debug, Clone)]
struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id, if it is valid: a hostile header must not fill the log.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let given = headers.get(HEADER)?;
        let bytes = given.as_bytes();
        let is_id =
            (1..=ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        is_id.then(|| Self(given.clone()))
    }

    fn new() -> Option<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}-{number:x}", *PROCESS);
        HeaderValue::from_str(&id).ok().map(Self)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Answers a request within its span.
pub(super) async fn traced(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = RequestId::given(request.headers()).or_else(RequestId::new);
    let Some(id) = id else {
        // Hexadecimal digits are always a value.
        return next.run(request).await;
    };
    // The level is that of errors, so that each line that is written has it.
    let span = tracing::error_span!("http", request_id = %id, trace_id = Empty);
    let answering = async {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let peer = request.extensions().get::<Arc<Peer>>();
        let client = peer.map_or_else(String::new, |peer| peer.address.ip().to_string());
        let response = next.run(request).await;
        tell(&app, (method.as_str(), &path, &client), &response);
        response
    };
    let mut response = answering.instrument(span).await;
    response.headers_mut().insert(HEADER, id.0);
    response
}

/// Answers a request that was let in, as a span of a trace if there is a collector.
pub(super) async fn spanned(request: Request, next: Next) -> Response {
    let Some(work) = begin(&request) else {
        return next.run(request).await;
    };
    if let Some(traced) = work.parent() {
        // The trace of the log's span, which the request is in.
        let trace = format!("{:032x}", traced.trace());
        tracing::Span::current().record("trace_id", trace);
    }
    let response = work.run(next.run(request)).await;
    end(&work, &response);
    response
}

/// Paths that probes and scrapers request every few seconds.
const UNTRACED: [&str; 2] = ["/metrics", "/readyz"];
/// The methods of our paths; any other has one name.
const METHODS: [Method; 4] = [Method::GET, Method::PUT, Method::POST, Method::DELETE];

/// The span of a request. It has the route that matched, not the requested path: a record's key may be a secret.
fn begin(request: &Request) -> Option<Work> {
    if !trace::is_on() {
        return None;
    }
    let method = METHODS.iter().find(|method| *method == request.method());
    let method = method.map_or("_OTHER", Method::as_str);
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    if UNTRACED.contains(&route) {
        return None;
    }
    let caller = request.headers().get(TRACEPARENT);
    let caller = caller.and_then(|value| value.to_str().ok()?.parse().ok());
    let work = Work::request(format!("{method} {route}").trim_end().to_owned(), caller)?;
    work.set("http.request.method", method.to_owned());
    work.set("http.route", route.to_owned());
    Some(work)
}

fn end(work: &Work, response: &Response) {
    let status = response.status();
    work.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        // The reason is only in the log: it may name a record.
        work.failed(status.canonical_reason().unwrap_or_default());
    }
}

/// Logs how a request ended; failures as warnings, with a limit a second.
fn tell(app: &App, (method, path, client): (&str, &str, &str), response: &Response) {
    let status = response.status();
    let why = response.extensions().get::<Why>();
    let (code, error) = (status.as_u16(), why.map_or("", |why| why.0.as_str()));
    // The answer to a readiness probe says why it fails; the log says it elsewhere.
    if !status.is_server_error() || path == "/readyz" {
        tracing::debug!(
            method,
            path,
            client,
            status = code,
            error,
            "request answered"
        );
        return;
    }
    let (pace, now_ms) = (&app.paces.failures, now_ms());
    if let Some(lines) = pace.left_out(now_ms) {
        tracing::warn!(
            lines,
            "further failures of requests were left out of the log"
        );
    }
    if pace.admits(client, now_ms) {
        tracing::warn!(method, path, client, status = code, error, "request failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &[u8]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(value).unwrap());
        RequestId::given(&headers).map(|id| id.to_string())
    }

    #[test]
    fn an_id_of_a_client_is_taken_if_it_is_short_and_visible() {
        assert_eq!(given(b"4Qd-x7:/a").as_deref(), Some("4Qd-x7:/a"));
        let longest = "x".repeat(ID_BYTES_MAX);
        assert_eq!(given(longest.as_bytes()), Some(longest.clone()));
        for wrong in ["", "a b", "a\tb", "é", &format!("{longest}x")] {
            assert_eq!(given(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert!(RequestId::given(&HeaderMap::new()).is_none());
    }

    #[test]
    fn no_two_new_ids_are_alike() {
        let new = || RequestId::new().unwrap().to_string();
        assert_ne!(new(), new());
    }
}
