//! `POST /v1/compact`: shrinks the embedded store's file to the size of its data.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::App;
use super::answer::Refusal;

pub(super) async fn compact(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let Some(compacted) = app.store.compact().await? else {
        let why = "the store is Redis, which frees what is deleted by itself";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, why));
    };
    Ok(Json(json!({
        "before_bytes": compacted.before,
        "after_bytes": compacted.after,
    })))
}
