//! `GET /v1/group`: the Redis servers of the unit, as they were seen last.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::App;
use super::answer::Refusal;
use crate::group::status::{Status, status};

pub(super) async fn group(State(app): State<Arc<App>>) -> Result<Json<Status>, Refusal> {
    let group = app.group.as_ref();
    let group = group.ok_or_else(|| Refusal::absent("group.servers in the configuration"))?;
    let seen = group.seen.borrow().clone();
    // Where another companion looks after the group, this one looks when it is asked.
    Ok(Json(match seen {
        Some(seen) => seen,
        None => status(&group.settings, &app.unit).await,
    }))
}
