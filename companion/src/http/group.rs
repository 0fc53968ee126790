//! `GET /v1/group`: the Redis servers of the unit, as they were seen last.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::App;
use super::answer::Refusal;
use crate::group::status::Status;

pub(super) async fn group(State(app): State<Arc<App>>) -> Result<Json<Status>, Refusal> {
    let seen = app.group.as_ref();
    let seen = seen.ok_or_else(|| Refusal::absent("group.servers in the configuration"))?;
    let status = seen.borrow().clone();
    let status = status.ok_or_else(|| Refusal::absent("a first look at the group"))?;
    Ok(Json(status))
}
