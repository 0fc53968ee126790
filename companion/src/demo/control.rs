//! The control port: `POST /instances` adds an instance, `DELETE /instances/<id>` kills one.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, post};
use tokio::net::TcpListener;

use super::DemoError;
use super::place::Place;

pub(super) async fn bind(port: u16) -> Result<TcpListener, DemoError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(failed)
}

/// Serves until it is dropped.
pub(super) async fn serve(place: Arc<Place>, listener: TcpListener) -> Result<(), DemoError> {
    let app = Router::new()
        .route("/instances", post(add))
        .route("/instances/{id}", delete(kill))
        .fallback(async || {
            let help = "POST /instances, or DELETE /instances/<id>\n";
            (StatusCode::NOT_FOUND, help)
        })
        .with_state(place);
    axum::serve(listener, app).await.map_err(failed)
}

async fn add(State(place): State<Arc<Place>>) -> (StatusCode, String) {
    answer(place.add_instance().await)
}

async fn kill(State(place): State<Arc<Place>>, Path(id): Path<String>) -> (StatusCode, String) {
    answer(place.kill_instance(&id).await)
}

fn answer(outcome: Result<String, String>) -> (StatusCode, String) {
    match outcome {
        Ok(text) => (StatusCode::OK, text + "\n"),
        Err(text) => (StatusCode::BAD_REQUEST, text + "\n"),
    }
}

fn failed(source: std::io::Error) -> DemoError {
    DemoError::Start {
        name: "the control port".to_owned(),
        source,
    }
}
