//! `POST /v1/reports`: a report in, the load of the rest of the fleet out.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::report::Report;
use unitring_protocol::snapshot::Snapshot;

use super::App;
use super::answer::{Refusal, json};
use crate::store::StoreError;
use crate::{loads, now_ms};

pub(super) async fn take(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Snapshot>, Refusal> {
    let answer = answer(&app, body).await;
    if answer.is_err() {
        app.metrics.reports_refused.inc();
    }
    answer
}

/// The one field that says whether the rest can be read at all.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// A report whose shape is not ours is refused for its version first, if it is a newer one's.
fn read(body: &[u8]) -> Result<Report, Refusal> {
    json(body).map_err(|refusal| match json(body) {
        Ok(Versioned { version }) if version > PROTOCOL_VERSION => {
            loads::ReportError::Newer(version).into()
        }
        _ => refusal,
    })
}

async fn answer(app: &App, body: Result<Bytes, BytesRejection>) -> Result<Json<Snapshot>, Refusal> {
    let body = body?;
    let mut report = read(&body)?;
    // What another unit carries comes from that unit alone.
    report.unit = None;
    loads::check(&report)?;
    let now_ms = now_ms();
    let mut snapshot = Snapshot {
        version: PROTOCOL_VERSION,
        events_through: 0,
        services: Vec::with_capacity(report.services.len()),
    };
    for service in &report.services {
        let taken = app.store.take(&report, service, now_ms).await;
        let taken = taken.inspect_err(|error| count(app, error))?;
        if taken.old {
            app.metrics.reports_old.inc();
        }
        app.metrics.loads_lowered.inc_by(taken.cut.loads);
        app.metrics.findings_cut.inc_by(taken.cut.findings);
        if taken.events > 0 {
            app.metrics.events_stored.inc_by(taken.events);
            app.events_changed.notify_waiters();
        }
        snapshot.events_through = snapshot.events_through.max(taken.events_through);
        let (of, reporter) = (&service.service, &report.reporter);
        snapshot
            .services
            .push(app.store.rest(of, reporter, now_ms).await?);
    }
    app.metrics.reports.inc();
    Ok(Json(snapshot))
}

fn count(app: &App, error: &StoreError) {
    if matches!(error, StoreError::Away(_)) {
        app.metrics.store_errors.inc();
    }
}
