//! The control port: `POST /instances` adds one, `DELETE /instances/<id>` kills one.

use std::sync::Arc;

use anyhow::Result;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;

use crate::place::Place;

/// Answers until it is dropped.
pub(crate) async fn serve(place: Arc<Place>) -> Result<()> {
    loop {
        let (stream, _) = place.control.accept().await?;
        let service = service_fn(|request| answer(&place, request));
        // One person with one curl: the next connection waits for this one.
        if let Err(error) = http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await
        {
            eprintln!("control: {error}");
        }
    }
}

async fn answer(place: &Place, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let path = request.uri().path();
    let outcome = match (request.method(), path.strip_prefix("/instances")) {
        (&Method::POST, Some("")) => place.add_instance().await,
        (&Method::DELETE, Some(id)) if id.len() > 1 => {
            place.kill_instance(id.trim_start_matches('/')).await
        }
        _ => Err(anyhow::anyhow!("POST /instances or DELETE /instances/<id>")),
    };
    let (status, text) = match outcome {
        Ok(text) => (200, text),
        Err(error) => (400, format!("{error:#}")),
    };
    Ok(Response::builder()
        .status(status)
        .body(Full::new(Bytes::from(format!("{text}\n"))))?)
}
