//! `/v1/units`: this unit and how far it is with each other one; who leaves the group, and who comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::json;
use unitring_protocol::ids::UnitId;

use super::App;
use super::answer::Refusal;
use super::data::write;
use crate::driver::{Handle, member_record};
use crate::now_ms;
use crate::store::{Change, Condition};

pub(super) async fn units(State(app): State<Arc<App>>) -> Result<Json<serde_json::Value>, Refusal> {
    let held = app.records.states(now_ms()).await?;
    let mut positions: BTreeMap<&UnitId, u64> = BTreeMap::new();
    let all = held.iter().flat_map(|held| &held.state.positions);
    for (unit, position) in all {
        let sum = positions.entry(unit).or_default();
        *sum = sum.saturating_add(position.sequence);
    }
    let buckets = held.iter().map(|held| &held.state);
    Ok(Json(json!({
        "unit": app.unit,
        "role": app.role.borrow().as_str(),
        "term": app.role.borrow().term(),
        "sync": app.sync.as_ref().map(Handle::status),
        "positions": positions,
        "buckets": buckets.collect::<Vec<_>>(),
    })))
}

/// One of the units that this one syncs with.
fn peer(app: &App, name: &str) -> Result<UnitId, Refusal> {
    let unit: UnitId = name.parse().map_err(Refusal::bad)?;
    if unit == app.unit {
        let error = format!("{unit} is this unit: ask another one to remove it");
        return Err(Refusal::bad(error));
    }
    let status = app.sync.as_ref().map(Handle::status);
    match status {
        Some(status) if status.peers.contains(&unit.to_string()) => Ok(unit),
        _ => Err(Refusal::absent(format!("unit {unit} among sync.peers"))),
    }
}

/// A unit leaves the group: nothing is sent to it or taken from it any more, in any unit.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    change(&app, &name, Change::from(Some(&b"removed"[..]))).await?;
    Ok(Json(json!({ "unit": name, "removed": true })))
}

/// It is a member again.
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    change(&app, &name, Change::Delete).await?;
    Ok(Json(json!({ "unit": name, "removed": false })))
}

async fn change(app: &App, name: &str, change: Change<'_>) -> Result<(), Refusal> {
    let unit = peer(app, name)?;
    let record = member_record(&unit).ok_or_else(|| Refusal::bad("no such name"))?;
    write(app, &record, change, &Condition::Any).await?;
    Ok(())
}
