//! An instance: `instance <id> <port>`. Answers every request with JSON: who it is and what came.
//!
//! The query of a request may ask for more: `status=503` is the status of the answer, `delay_ms=200`
//! its delay, `reset=1` closes the connection without an answer.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (Some(id), Some(port)) = (env::args().nth(1), env::args().nth(2)) else {
        bail!("usage: instance <id> <port>");
    };
    let port: u16 = port.parse().context("the port")?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let id = id.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&id, request));
            let mut http = http1::Builder::new();
            http.max_buf_size(1 << 20);
            // A client that goes away, or `reset`, is no failure of the instance.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// Only a request to reset the connection has no answer.
async fn answer(id: &str, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let asked = |name: &str| {
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        fields
            .into_iter()
            .find(|(field, _)| *field == name)
            .and_then(|(_, value)| value.parse::<u16>().ok())
    };
    if let Some(delay_ms) = asked("delay_ms") {
        tokio::time::sleep(Duration::from_millis(u64::from(delay_ms))).await;
    }
    if asked("reset").is_some() {
        bail!("reset was asked for");
    }
    let mut body = describe(id, &request);
    let received = request.into_body().collect().await?.to_bytes();
    if let Some(fields) = body.as_object_mut() {
        fields.insert("body_bytes".to_owned(), received.len().into());
    }
    let response = Response::builder()
        .status(asked("status").unwrap_or(200))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(format!("{body}\n"))))?;
    Ok(response)
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
