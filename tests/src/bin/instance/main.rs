//! An instance: `instance <id> <port>`. Answers every request with JSON: its id and the request it
//! received.
//!
//! The query of a request controls its answer: `status=503` sets the status, `delay_ms=200` delays the
//! answer, `stream_ms=200` delays the body after the headers, `held=1` does so until `POST /__release`, `reset=1` closes
//! the connection without an answer, `redirect=1` sends the client to `/` by a 302. A request may ask for an upgrade to a stream
//! that is echoed.
//!
//! `update=carts/ada;body` announces data updates; `value=…`, or a number of digits by `size=65536`, is the body of the
//! answer then. `chunks=4` sends it in pieces without a length in the headers, `trailers=1` ends it with trailers,
//! `abort=1` breaks the connection before its last piece, and `content_type=…` names its type. The instance speaks
//! HTTP/1 and HTTP/2.
//!
//! The instance counts its own load: `GET /__load` and `POST /__load/reset`. `POST /__slow?ms=80` sets
//! the duration of every request from now on; with `&workers=16` it works on 16 at once, while the
//! others wait. `POST /__fail?status=503` makes every answer a failure, and `status=0` ends that. These
//! and `/healthz` are not counted, not slowed down and do not fail.

#![allow(clippy::disallowed_methods, reason = "tests wait and measure")]

mod announce;
mod body;
mod counter;
mod upgrade;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HOST, LOCATION};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use body::Tail;
use counter::{Counted, Counter};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (Some(id), Some(port)) = (env::args().nth(1), env::args().nth(2)) else {
        bail!("usage: instance <id> <port>");
    };
    let port: u16 = port.parse().context("the port")?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let counter = Counter::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let (id, counter) = (id.clone(), Arc::clone(&counter));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (id, counter) = (id.clone(), Arc::clone(&counter));
                async move { answer(&id, &counter, request).await }
            });
            let mut http = auto::Builder::new(TokioExecutor::new());
            http.http1().max_buf_size(1 << 20);
            let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
            // A client that goes away, or `reset`, is not an error of the instance.
            drop(connection.await);
        });
    }
}

/// The answer, except to a request that asks for a reset of the connection.
async fn answer(
    id: &str,
    counter: &Arc<Counter>,
    request: Request<Incoming>,
) -> Result<Response<Tail>> {
    let path = request.uri().path();
    if path == "/healthz" || path.starts_with("/__") {
        return about_itself(id, counter, &request);
    }
    let counted = counter.count();
    if upgrade::is_asked(&request) {
        return upgrade::accept(id, request, counted);
    }
    let worker = counter.worker().await;
    let delay = counter.service_time() + asked_ms(&request, "delay_ms");
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    drop(worker);
    if asked(&request, "reset").is_some() {
        bail!("reset was asked for");
    }
    if asked(&request, "redirect").is_some() {
        return redirect(&request, counted);
    }
    let stream_delay = asked_ms(&request, "stream_ms");
    let status = counter.failure().or(asked(&request, "status"));
    let status = status.unwrap_or(200);
    let counted = match announce::answer(&request, u16::try_from(status)?, counted)? {
        Ok(response) => {
            request.into_body().collect().await?;
            return Ok(response.map(|tail| tail.after(stream_delay)));
        }
        Err(counted) => counted,
    };
    let release = asked(&request, "held").map(|_| counter.next_release());
    let mut body = describe(id, &request);
    let received = request.into_body().collect().await?.to_bytes();
    if let Some(fields) = body.as_object_mut() {
        fields.insert("body_bytes".to_owned(), received.len().into());
    }
    let mut tail = Tail::at_once(format!("{body}\n"), Some(counted));
    if !stream_delay.is_zero() {
        tail = tail.after(stream_delay);
    }
    if let Some(release) = release {
        tail = tail.from(release);
    }
    Ok(Response::builder()
        .status(u16::try_from(status)?)
        .header("content-type", "application/json")
        .body(tail)?)
}

fn redirect(request: &Request<Incoming>, counted: Counted) -> Result<Response<Tail>> {
    let host = request.headers().get(HOST).context("no host")?.to_str()?;
    Ok(Response::builder()
        .status(StatusCode::FOUND)
        .header(LOCATION, format!("http://{host}/"))
        .body(Tail::at_once("", Some(counted)))?)
}

fn about_itself(
    id: &str,
    counter: &Counter,
    request: &Request<Incoming>,
) -> Result<Response<Tail>> {
    let body = match (request.method(), request.uri().path()) {
        (_, "/healthz") => json!({"instance": id}),
        (&Method::GET, "/__load") => json!(counter.load()),
        (&Method::POST, "/__load/reset") => {
            counter.reset();
            json!(counter.load())
        }
        (&Method::POST, "/__slow") => {
            let ms = asked(request, "ms").context("?ms= is missing")?;
            let workers = asked(request, "workers").map(usize::try_from).transpose()?;
            counter.slow_down(ms, workers);
            json!({"ms": ms, "workers": workers})
        }
        (&Method::POST, "/__release") => {
            counter.release();
            json!({})
        }
        (&Method::POST, "/__fail") => {
            let status = asked(request, "status").context("?status= is missing")?;
            counter.fail(status);
            json!({"status": status})
        }
        (method, path) => bail!("{method} {path}: unknown"),
    };
    Ok(Response::new(Tail::at_once(format!("{body}\n"), None)))
}

/// A number in the query.
fn asked(request: &Request<Incoming>, name: &str) -> Option<u64> {
    let query = request.uri().query().unwrap_or_default();
    let mut fields = query.split('&').filter_map(|field| field.split_once('='));
    let (_, value) = fields.find(|(field, _)| *field == name)?;
    value.parse().ok()
}

fn asked_ms(request: &Request<Incoming>, name: &str) -> Duration {
    Duration::from_millis(asked(request, name).unwrap_or(0))
}

fn describe(id: &str, request: &Request<Incoming>) -> Value {
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        let value = Value::String(String::from_utf8_lossy(value.as_bytes()).into_owned());
        let values = headers
            .entry(name.as_str())
            .or_insert_with(|| Value::Array(vec![]));
        if let Some(values) = values.as_array_mut() {
            values.push(value);
        }
    }
    json!({
        "instance": id,
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "headers": headers,
    })
}
