//! `/healthz`, `/readyz`, `/metrics`: for whoever runs the companion.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{App, services};
use crate::lead::Role;

/// How long the store may take to say that it is there.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The process is alive.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the unit can take writes and pass them on.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let store = match tokio::time::timeout(CHECK_TIMEOUT, app.fleet.check()).await {
        Ok(Ok(())) => "ok".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CHECK_TIMEOUT.as_secs()),
    };
    let link = match &app.sync {
        // One companion of a unit syncs for all of them.
        _ if *app.role.borrow() == Role::Follower => "ok".to_owned(),
        None => "ok".to_owned(),
        Some(sync) => sync.status().link,
    };
    let is_ready = store == "ok" && link == "ok";
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut checks = serde_json::json!({ "store": store, "link": link });
    // A group that is degraded still serves: whether it does, the store says.
    let group = app
        .group
        .as_ref()
        .and_then(|group| group.seen.borrow().clone());
    if let (Some(group), Some(checks)) = (group, checks.as_object_mut()) {
        let text = if group.healthy {
            "ok".to_owned()
        } else {
            format!("degraded: {}", group.problems.join("; "))
        };
        checks.insert("group".to_owned(), text.into());
    }
    (
        status,
        Json(serde_json::json!({ "ready": is_ready, "checks": checks })),
    )
        .into_response()
}

/// The Prometheus text. While the store is away it has this process's metrics alone.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let shown = tokio::time::timeout(CHECK_TIMEOUT, services::shown(&*app.fleet)).await;
    let shown = shown.ok().and_then(Result::ok).unwrap_or_default();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let spoiled = app.records.spoiled().len();
    let spoiled = u64::try_from(spoiled).unwrap_or(u64::MAX);
    app.metrics.records_spoiled.set(spoiled);
    let units = app.sync.as_ref().map(|sync| sync.status().links);
    match app.metrics.text(&shown, &units.unwrap_or_default()) {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
