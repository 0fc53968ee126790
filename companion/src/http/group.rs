//! `GET /v1/group`: the Redis servers of the unit, as last observed.

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
    let settings = group.settings.borrow().clone();
    // While another companion watches the group, this one asks the servers on demand.
    Ok(Json(match seen {
        Some(seen) => seen,
        None => status(&settings, &app.unit).await,
    }))
}
