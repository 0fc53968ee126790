//! `connection: upgrade`, `upgrade: websocket`: 101, then an echo of every byte until the client closes.
//! A balancer only sees that the connection stays open, so the bytes have no WebSocket frames.

use anyhow::Result;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::body::Tail;
use crate::counter::Counted;

/// Whether the request asks for this upgrade.
pub(crate) fn is_asked(request: &Request<Incoming>) -> bool {
    let upgrade = request.headers().get(UPGRADE);
    upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers 101, and counts the request until its connection ends.
pub(crate) fn accept(
    id: &str,
    mut request: Request<Incoming>,
    counted: Counted,
) -> Result<Response<Tail>> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _counted = counted;
        if let Ok(stream) = upgrade.await {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(stream));
            // A client that resets counts like one that closes.
            drop(tokio::io::copy(&mut from, &mut to).await);
        }
    });
    Ok(Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header("x-instance", id)
        .body(Tail::at_once("", None))?)
}
