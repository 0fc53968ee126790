//! `GET /v1/units`: this unit and how far it is with each other one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::App;
use super::answer::Refusal;
use crate::now_ms;

pub(super) async fn units(State(app): State<Arc<App>>) -> Result<Json<serde_json::Value>, Refusal> {
    let held = app.records.states(now_ms()).await?;
    let states: Vec<_> = held.into_iter().map(|held| held.state).collect();
    let mut positions = std::collections::BTreeMap::new();
    for (unit, position) in states.iter().flat_map(|state| &state.positions) {
        let sum: &mut u64 = positions.entry(unit.to_string()).or_default();
        *sum = sum.saturating_add(position.sequence);
    }
    let buckets: Vec<_> = states
        .iter()
        .map(|state| serde_json::json!({ "bucket": state.bucket, "digest": state.digest, "positions": state.positions }))
        .collect();
    let sync = app.sync.as_ref().map(crate::driver::Handle::status);
    Ok(Json(serde_json::json!({
        "unit": app.unit,
        "role": app.role.borrow().as_str(),
        "term": app.role.borrow().term(),
        "sync": sync,
        "positions": positions,
        "buckets": buckets,
    })))
}
