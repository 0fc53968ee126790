//! `GET /ui`: the console, a page whose files are part of the program.
//!
//! Invariant: the files hold nothing of this unit, so they are open to all clients; the page asks the API for all it
//! shows, with the reader's credential. The headers let it run its own scripts alone and speak to this companion alone.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha1::{Digest as _, Sha1};

use super::answer::Refusal;
use super::extract::Path;

/// A file of the console.
struct File {
    kind: &'static str,
    bytes: &'static [u8],
}

/// The files by their paths below `/ui/`.
macro_rules! files {
    ($($kind:expr => $($path:literal),+;)+) => {
        [$($(($path, File { kind: $kind, bytes: include_bytes!(concat!("../../ui/", $path)) }),)+)+]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const SVG: &str = "image/svg+xml";
/// The path of the page itself.
const PAGE: &str = "index.html";

static FILES: LazyLock<BTreeMap<&str, (File, HeaderValue)>> = LazyLock::new(|| {
    let files = files! {
        HTML => "index.html";
        CSS => "style.css", "vendor/uPlot.min.css";
        SVG => "icon.svg";
        TEXT => "vendor/LICENSE";
        SCRIPT => "vendor/uPlot.iife.min.js", "app.js", "access.js", "api.js", "chart.js", "dom.js", "events.js",
            "format.js", "health.js", "history.js", "poll.js", "ring.js", "state.js", "table.js", "theme.js",
            "views/events.js", "views/group.js", "views/instances.js", "views/locate.js", "views/reporters.js",
            "views/service.js", "views/services.js", "views/units.js";
    };
    let tagged = files.into_iter().filter_map(|(path, file)| {
        let hash = Sha1::digest(file.bytes);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{hex}\"")).ok()?;
        Some((path, (file, tag)))
    });
    tagged.collect()
});

/// Scripts, styles and requests of this companion, and nothing else. No text becomes markup: the browser stops a page
/// that makes markup from a string.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The headers of every file.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    // The browser keeps it, and checks its tag each time: another companion may answer next.
    (header::CACHE_CONTROL, "no-cache"),
];

/// `/ui`: the files are beside the page, so its path has to end with a slash. Relative, for a proxy that adds a prefix.
pub(super) async fn redirect() -> Response {
    let place = [(header::LOCATION, "ui/")];
    (StatusCode::PERMANENT_REDIRECT, place).into_response()
}

pub(super) async fn page(headers: HeaderMap) -> Result<Response, Refusal> {
    answer(PAGE, &headers)
}

pub(super) async fn file(
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    answer(&path, &headers)
}

fn answer(path: &str, asked: &HeaderMap) -> Result<Response, Refusal> {
    let found = FILES.get(path);
    let (file, tag) = found.ok_or_else(|| Refusal::absent(format!("/ui/{path}")))?;
    let known = asked.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_known = known.any(|known| {
        let known = known.trim_ascii();
        known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes()
    });
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, file.kind)], file.bytes).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
