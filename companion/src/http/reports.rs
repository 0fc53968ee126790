//! `POST /v1/reports`: takes a report, and answers with the load of the rest of the fleet.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{InstanceId, ReporterId};
use unitring_protocol::report::{InstanceLoad, Report};
use unitring_protocol::snapshot::{ServiceSnapshot, Snapshot};

mod room;
mod sizes;
mod told;

pub(crate) use room::Room;
use sizes::OF_ONE_MAX;
pub(crate) use sizes::{REPORTS_BYTES_MAX, Sizes};

use super::App;
use super::answer::{Refusal, json};
use crate::clock::now_ms;
use crate::door::Caller;
use crate::door::credentials::Principal;
use crate::loads::{self, LoadReport, Owner};
use crate::store::{Logged, StoreError};

pub(super) async fn take(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Snapshot>, Refusal> {
    let answer = answer(&app, &caller, body).await;
    if answer.is_err() {
        app.metrics.reports_refused.inc();
    }
    answer
}

/// The field that tells whether this program can read the rest.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// Parses a report. If its shape is unknown and its version is newer, the error is about the
/// version.
fn read(body: &[u8]) -> Result<Report, Refusal> {
    json(body).map_err(|refusal| match json(body) {
        Ok(Versioned { version }) if version > PROTOCOL_VERSION => {
            loads::ReportError::Newer(version).into()
        }
        _ => refusal,
    })
}

async fn answer(
    app: &App,
    caller: &Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Snapshot>, Refusal> {
    let body = body?;
    let mut report = read(&body)?;
    let now_ms = now_ms();
    loads::check(&report)?;
    let principal = caller.principal();
    // Also if the two report on different services, which a store does not compare.
    if app
        .reports
        .is_anothers(&report.reporter, &principal, now_ms)
    {
        return Err(StoreError::NotYours(report.reporter).into());
    }
    if !app.reports.fits(&report, &principal, body.len(), now_ms) {
        app.metrics.writes_too_many.inc();
        let error = format!(
            "reports: those of all must have at most {REPORTS_BYTES_MAX} bytes, those of one client half of it; one credential reports for at most {OF_ONE_MAX} reporters, counted once for each service"
        );
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error));
    }
    let owner = Owner::client(&principal);
    let mut snapshot = Snapshot {
        version: PROTOCOL_VERSION,
        events_through: 0,
        services: Vec::with_capacity(report.services.len()),
    };
    for service in std::mem::take(&mut report.services) {
        let fallbacks = service.fallbacks;
        let report = LoadReport::of_reporter(&report, service, &owner);
        let room = app.events_room.left(&report.reporter, &principal, now_ms);
        let taken = app.store.take(&report, room, now_ms).await;
        let taken = taken.inspect_err(|error| count(app, error))?;
        let (of, by) = (&report.service, &report.reporter);
        if taken.old {
            app.metrics.reports_old.inc();
        } else {
            let until_ms = now_ms.saturating_add(loads::alive_ms(report.interval_ms));
            app.metrics
                .took_fallbacks(of, by, fallbacks, (now_ms, until_ms));
        }
        app.metrics.reporters_displaced.inc_by(taken.displaced);
        app.metrics.loads_lowered.inc_by(taken.cut.loads);
        app.metrics.findings_cut.inc_by(taken.cut.findings);
        logged(app, by, &principal, &taken.logged, now_ms);
        told::tell(&app.paces.reports, by, of, &taken, now_ms);
        snapshot.events_through = snapshot.events_through.max(taken.events_through);
        let mut rest = app.store.rest(of, by, now_ms).await?;
        shorten(&mut rest, &report.instances);
        snapshot.services.push(rest);
    }
    app.metrics.reports.inc();
    Ok(Json(snapshot))
}

/// Counts the outcome of a report's events, and wakes the requests that wait for entries.
fn logged(app: &App, reporter: &ReporterId, principal: &Principal, logged: &Logged, now_ms: u64) {
    app.metrics.events_stored.inc_by(logged.stored);
    app.metrics.events_merged.inc_by(logged.counted);
    app.metrics.events_left_out.inc_by(logged.left_out);
    app.events_room
        .took(reporter, principal, logged.bytes, now_ms);
    if logged.stored > 0 {
        app.events_changed.notify_waiters();
    }
    // As a cause of its own, since such a reporter uses up its lines.
    let admits = || app.paces.reports.admits("events left out", now_ms);
    if logged.left_out > 0 && app.events_room.tells(reporter, now_ms, admits) {
        told::tell_left_out(reporter, logged.left_out);
    }
}

/// Leaves out instances that the reporter does not know, if there are more than a filter can have: others may have
/// invented them.
fn shorten(rest: &mut ServiceSnapshot, reported: &[InstanceLoad]) {
    if rest.rest.len() <= loads::INSTANCES_MAX {
        return;
    }
    let known: BTreeSet<&InstanceId> = reported.iter().map(|load| &load.id).collect();
    rest.rest.retain(|rest| known.contains(&rest.id));
}

fn count(app: &App, error: &StoreError) {
    if matches!(error, StoreError::Away(_)) {
        app.metrics.store_errors.inc();
    }
}
