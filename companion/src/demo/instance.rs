//! An instance of the service: answers every request with JSON of its id and the request.

use std::net::Ipv4Addr;
use std::thread;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::DemoError;

/// A running instance; stopped when it is dropped.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: String,
    port: u16,
    /// Dropping it ends the thread.
    life: Option<oneshot::Sender<()>>,
}

impl Instance {
    pub(super) async fn start(id: &str, port: u16) -> Result<Self, DemoError> {
        let started = |source| DemoError::Start {
            name: format!("instance {id}"),
            source,
        };
        // Bound before this returns, so that the instance answers at once.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(started)?.into_std().map_err(started)?;
        let (life, end) = oneshot::channel();
        // On its own runtime, whose end closes all connections at once, like a killed process.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(started)?;
        let app = app(id.to_owned());
        thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else {
                    return;
                };
                tokio::select! {
                    _ = axum::serve(listener, app) => {}
                    _ = end => {}
                }
            });
            runtime.shutdown_background();
        });
        Ok(Self {
            id: id.to_owned(),
            port,
            life: Some(life),
        })
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stops it, and closes its connections.
    pub(super) fn kill(&mut self) {
        self.life = None;
    }

    pub(super) fn is_alive(&self) -> bool {
        self.life.is_some()
    }
}

fn app(id: String) -> Router {
    let healthy = json!({"instance": id});
    Router::new()
        .route("/healthz", get(async move || Json(healthy)))
        .fallback(async move |request: Request| answer(&id, &request))
}

fn answer(id: &str, request: &Request) -> Response {
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        let value = Value::String(String::from_utf8_lossy(value.as_bytes()).into_owned());
        let values = headers
            .entry(name.as_str())
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Some(values) = values.as_array_mut() {
            values.push(value);
        }
    }
    let body = json!({
        "instance": id,
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "headers": headers,
    });
    let content_type = [("content-type", "application/json")];
    (StatusCode::OK, content_type, format!("{body}\n")).into_response()
}
