//! `/v1/units`: the state of this unit and its peers; removes a unit from the group and adds it
//! again.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::UnitId;

use super::App;
use super::answer::Refusal;
use super::data::write;
use super::extract::{Path, Query};
use crate::clock::{moment, now_ms};
use crate::replica::bounds::ahead;
use crate::store::{Change, Condition, Outcome, Page};
use crate::sync::{Handle, members};

/// A removed unit that sent something within this time still runs.
const STRANGER_MS: u64 = 3_000;

pub(super) async fn units(State(app): State<Arc<App>>) -> Result<Json<serde_json::Value>, Refusal> {
    let held = app.store.states(now_ms()).await?;
    let mut positions: BTreeMap<&UnitId, u64> = BTreeMap::new();
    let all = held.iter().flat_map(|held| &held.state.positions);
    for (unit, position) in all {
        let sum = positions.entry(unit).or_default();
        *sum = sum.saturating_add(position.sequence);
    }
    let buckets = held.iter().map(|held| &held.state);
    // If the store is full, the rest of the answer shows it.
    let clock_ahead_ms = app.store.clock_ahead_ms().await.ok();
    let settled = app.store.settled(moment()).await.ok();
    let keeping = app.store.keeping().await.ok();
    Ok(Json(json!({
        "unit": app.unit,
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL_VERSION,
        "store": keeping,
        "role": app.role.borrow().shown(),
        "term": app.role.borrow().term(),
        "sync": app.sync.as_ref().map(Handle::status),
        "spoiled": app.store.spoiled(),
        "store_clock_ahead_ms": clock_ahead_ms,
        "clock_doubted_ms": settled.and_then(|settled| settled.doubted_ms),
        "positions": positions,
        "buckets": buckets.collect::<Vec<_>>(),
    })))
}

/// Parses the name of a peer of this unit.
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

/// Removes a unit from the group: no unit sends to it or takes from it any more.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let unit = peer(&app, &name)?;
    let status = app.sync.as_ref().map(Handle::status);
    let stores = status.map(|status| status.stores(&unit));
    let removal = members::removal(&stores.unwrap_or_default());
    change(&app, &unit, Change::from(Some(removal.as_bytes()))).await?;
    Ok(Json(json!({ "unit": name, "removed": true })))
}

/// Refuses to add a unit that still runs: it has its old store, and records deleted since would come back with it.
async fn still_runs(app: &App, unit: &UnitId) -> Result<(), Refusal> {
    let Some(sync) = app.sync.as_ref() else {
        return Ok(());
    };
    let is_claimed = sync.runs(unit).await == Some(true);
    // Looked at last: a unit that does not know yet that it was removed is heard while its broker is asked.
    let heard = sync.status().strangers.get(unit).map(|it| it.last_ms);
    let ago_ms = heard.map(|last_ms| now_ms().saturating_sub(last_ms));
    let seen = match ago_ms {
        Some(ago_ms) if ago_ms < STRANGER_MS => format!("it sent something {ago_ms} ms ago"),
        _ if is_claimed => "it is connected to its broker".to_owned(),
        _ => return Ok(()),
    };
    Err(Refusal::new(
        StatusCode::CONFLICT,
        format!(
            "{unit} still runs: {seen}. Stop its companions, empty its store, add it, and start it then"
        ),
    ))
}

/// Adds a removed unit again.
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let unit = peer(&app, &name)?;
    still_runs(&app, &unit).await?;
    change(&app, &unit, Change::Delete).await?;
    Ok(Json(json!({ "unit": name, "removed": false })))
}

async fn change(app: &App, unit: &UnitId, change: Change<'_>) -> Result<(), Refusal> {
    let record = members::record(unit).ok_or_else(|| Refusal::bad("no such name"))?;
    write(app, &record, change, &Condition::Any).await?;
    Ok(())
}

/// Makes this companion's settings the unit's.
pub(super) async fn agree(State(app): State<Arc<App>>) -> Result<Json<serde_json::Value>, Refusal> {
    app.store.agree().await?;
    Ok(Json(json!({ "unit": app.unit })))
}

/// The query of a repair in this unit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mend {
    #[serde(default)]
    recount: bool,
    #[serde(default)]
    clocks: bool,
}

/// Recomputes digests, or sets clocks back that are too far ahead.
pub(super) async fn mend(
    State(app): State<Arc<App>>,
    Query(mend): Query<Mend>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let (mut clocks, mut records, mut recounted) = (Vec::new(), 0_u64, Vec::new());
    let (mut lost, mut failed) = (0_u64, BTreeMap::new());
    if mend.clocks {
        clocks = app.store.reset_clocks(now_ms()).await?;
        for held in app.store.states(now_ms()).await? {
            records += again(&app, held.state.bucket).await?;
        }
    }
    if mend.recount {
        // Every bucket is read now, so what is still wrong is named again.
        app.store.forget_spoiled();
        for bucket in 0..=u8::MAX {
            let found = app.store.recount(bucket, now_ms()).await?;
            failed.extend(found.unread.map(|why| (bucket, why)));
            lost = lost.saturating_add(found.lost);
            if found.was_wrong {
                recounted.push(bucket);
            }
        }
    }
    Ok(Json(json!({
        "clocks": clocks, "records": records, "recounted": recounted, "lost": lost, "failed": failed,
    })))
}

/// Gives the records of a bucket that are too far ahead a version of now; returns how many.
async fn again(app: &App, bucket: u8) -> Result<u64, Refusal> {
    let (mut page, mut count) = (Page::first(), 0);
    while !page.is_done() {
        let (records, next) = app.store.page(bucket, page).await?;
        for record in records {
            if ahead(record.version.clock.ms, now_ms()).is_none() {
                continue;
            }
            let outcome = write(app, &record.id, Change::Again, &Condition::Any).await?;
            count += u64::from(matches!(outcome, Outcome::Done(_)));
        }
        page = next;
    }
    Ok(count)
}
