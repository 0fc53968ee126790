//! `/healthz`, `/readyz`, `/metrics`: for operators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::{App, wiring};
use crate::clock::now_ms;
use crate::leadership::Role;
use crate::metrics::Seen;
use crate::states::Check;
use crate::store::StoreError;

/// How long the store may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The answer in time, or the error.
fn in_time<T>(answer: Result<Result<T, StoreError>, Elapsed>) -> Result<T, String> {
    match answer {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CHECK_TIMEOUT.as_secs())),
    }
}

/// Whether the unit can take writes and pass them on. It also shows which reporters are wired
/// wrongly, since operators look here; that does not make the unit unready.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let (store, found) = tokio::join!(
        timeout(CHECK_TIMEOUT, app.store.check()),
        timeout(CHECK_TIMEOUT, app.wiring.look(&*app.store)),
    );
    let store = Check::from(in_time(store));
    // A unit without peers has no link, so the answer has none.
    let link = app.sync.as_ref().map(|sync| match *app.role.borrow() {
        // The leader of the unit syncs for all its companions.
        Role::Follower => Check::Ok,
        _ => Check::from(sync.status().link),
    });
    let is_ready = store.is_ok() && link.as_ref().is_none_or(Check::is_ok);
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut checks = BTreeMap::from([("store", store)]);
    checks.extend(link.map(|link| ("link", link)));
    // A degraded group may still serve: the check of the store decides.
    let group = app
        .group
        .as_ref()
        .and_then(|group| group.seen.borrow().clone());
    if let Some(group) = group {
        let check = match group.healthy {
            true => Check::Ok,
            false => Check::Failed(format!("degraded: {}", group.problems.join("; "))),
        };
        checks.insert("group", check);
    }
    // If the wiring is unknown, the answer says so.
    let wiring = in_time(found).map_or_else(
        |error| vec![format!("unknown: {error}")],
        |found| wiring::lines(&found),
    );
    let body = serde_json::json!({
        "unit": app.unit,
        "role": app.role.borrow().shown(),
        "ready": is_ready,
        "checks": checks,
        "wiring": wiring,
    });
    (status, Json(body)).into_response()
}

/// The Prometheus text. While the store is away it has this process's metrics alone.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let (fleet, found, clock, log) = tokio::join!(
        app.overview.look(&app.store, CHECK_TIMEOUT),
        timeout(CHECK_TIMEOUT, app.wiring.look(&*app.store)),
        timeout(CHECK_TIMEOUT, app.store.clock_ahead_ms()),
        timeout(CHECK_TIMEOUT, app.store.log_size()),
    );
    let clock = in_time(clock);
    app.metrics.store_up.set(u64::from(clock.is_ok()));
    // The last look from before an outage of the store says nothing about now.
    let fleet = if clock.is_ok() { fleet } else { Arc::default() };
    if let Ok(ahead_ms) = clock {
        let ahead = Duration::from_millis(ahead_ms.unsigned_abs()).as_secs_f64();
        let ahead = if ahead_ms < 0 { -ahead } else { ahead };
        app.metrics.store_clock_ahead_seconds.set(ahead);
    }
    let found = in_time(found).unwrap_or_default();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let spoiled = app.store.spoiled().len();
    let spoiled = u64::try_from(spoiled).unwrap_or(u64::MAX);
    app.metrics.records_spoiled.set(spoiled);
    let is_leader = app.role.borrow().term().is_some();
    let links = app.sync.as_ref().filter(|_| is_leader).map(|sync| {
        let links = sync.status().links.into_iter();
        // A unit that was removed is not missed.
        let members = links.filter(|(_, link)| !link.is_removed());
        members.map(|(unit, link)| (unit, link.shown())).collect()
    });
    let group = app.group.as_ref();
    let watched = group.and_then(|group| group.seen.borrow().clone());
    let seen = Seen {
        instances: &fleet.instances,
        services: &fleet.services,
        found: &found,
        traces: crate::trace::is_on(),
        has_peers: app.sync.is_some(),
        links: links.as_ref(),
        has_group: group.is_some(),
        watches_group: watched.is_some(),
        log: in_time(log).ok(),
        group_memory_ratio: watched.and_then(|status| status.memory_ratio()),
        now_ms: now_ms(),
    };
    match app.metrics.text(&seen) {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
