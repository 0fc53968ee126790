//! An instance of an HTTP service: answers every request with JSON of its id and the request.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

pub(super) async fn serve(listener: TcpListener, id: String) {
    // It ends only with its runtime.
    drop(axum::serve(listener, app(id)).await);
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
