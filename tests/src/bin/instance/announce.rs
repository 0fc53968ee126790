//! Answers that announce data updates, as a request asks for them.

use anyhow::Result;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use reqwest::Url;

use crate::body::Tail;
use crate::counter::Counted;

/// The header of data updates.
const UPDATE: &str = "x-unitring-update";

/// Values of a field of the query, decoded.
fn values(request: &Request<Incoming>, name: &str) -> Vec<String> {
    let query = request.uri().query().unwrap_or_default();
    let url = format!("http://instance/?{query}");
    let Ok(url) = Url::parse(&url) else {
        return Vec::new();
    };
    let pairs = url.query_pairs().filter(|(field, _)| field == name);
    pairs.map(|(_, value)| value.into_owned()).collect()
}

/// The answer, if the request asks for `update`, `value`, `size` or `content_type`.
pub(crate) fn answer(
    request: &Request<Incoming>,
    status: u16,
    counted: Counted,
) -> Result<std::result::Result<Response<Tail>, Counted>> {
    let first = |name| values(request, name).into_iter().next();
    let updates = values(request, "update");
    let value = match (first("value"), first("size")) {
        (Some(value), _) => value.into_bytes(),
        (None, Some(size)) => (b'0'..=b'9').cycle().take(size.parse()?).collect(),
        (None, None) if updates.is_empty() => return Ok(Err(counted)),
        (None, None) => Vec::new(),
    };
    let mut tail = Tail::at_once(value, Some(counted));
    if let Some(count) = first("chunks") {
        tail = tail.in_chunks(count.parse()?);
    }
    if first("trailers").is_some() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", HeaderValue::from_static("here"));
        tail = tail.and_trailers(trailers);
    }
    if first("abort").is_some() {
        tail = tail.aborted();
    }
    let content_type = first("content_type");
    let content_type = content_type.as_deref().unwrap_or("text/plain");
    let mut response = Response::builder()
        .status(status)
        .header("content-type", content_type);
    for update in updates {
        response = response.header(UPDATE, HeaderValue::from_bytes(update.as_bytes())?);
    }
    Ok(Ok(response.body(tail)?))
}
