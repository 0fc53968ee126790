//! `GET /v1/conflicts`: concurrent changes that lost, as a list.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::App;
use super::answer::Refusal;
use super::extract::Query;
use crate::store::Conflict;

/// Conflicts in an answer without a `limit` …
const LIMIT: usize = 100;
/// … and the most that `limit` may ask for.
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    limit: Option<usize>,
}

pub(super) async fn conflicts(
    State(app): State<Arc<App>>,
    Query(question): Query<Question>,
) -> Result<Json<Vec<Conflict>>, Refusal> {
    let limit = question.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    Ok(Json(app.store.conflicts(limit).await?))
}
