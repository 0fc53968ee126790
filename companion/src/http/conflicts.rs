//! `GET /v1/conflicts`: changes that lost against one that did not know of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::App;
use super::answer::Refusal;
use super::extract::Query;
use crate::store::Conflict;

/// Conflicts in an answer, if nobody says how many.
const LIMIT: usize = 100;
/// And at most.
const LIMIT_MAX: usize = 1_000;

/// The query.
#[derive(Debug, Deserialize)]
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
