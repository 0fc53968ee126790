//! `GET /v1/events`: the event log, as JSON or as server-sent events that resume at the client's
//! position.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::stream::{self, Stream, StreamExt as _};
use serde::Deserialize;

use super::App;
use super::answer::Refusal;
use super::entry::{STREAM_KEEP_ALIVE, stream_place};
use super::extract::Query;
use crate::door::Caller;
use crate::door::kept::Share;
use crate::events::{Cursor, Entry};

/// Most events in an answer, and the default below.
const LIMIT_MAX: usize = 1_000;
const LIMIT: usize = 100;
/// How often a stream looks for events that another companion stored.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How far an observer's clock may be ahead of the store's, at most, for its events to be found by `since`.
const AHEAD_MS: u64 = 3_600_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    after: Option<String>,
    since: Option<u64>,
    limit: Option<usize>,
    format: Option<String>,
}

pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(question): Query<Question>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = question
        .after
        .as_deref()
        .map(|after| ("query: after", after));
    let after = asked.or_else(|| Some(("last-event-id", text("last-event-id")?)));
    let after = after.map(|(field, after)| {
        let after: Result<Cursor, _> = after.parse();
        after.map_err(|error| Refusal::bad(format!("{field}: {error}")))
    });
    let after = after.transpose()?;
    // Skips older events, as far as the store can; the client leaves out the rest.
    let since = question
        .since
        .map(|ms| app.store.cursor_at(ms.saturating_sub(AHEAD_MS)));
    let after = after.max(since);
    let is_json = match question.format.as_deref() {
        Some("json") => true,
        Some("sse") => false,
        Some(other) => {
            return Err(Refusal::bad(format!(
                "query: format: {other:?}: must be json or sse"
            )));
        }
        None => {
            let accept = headers.get_all(header::ACCEPT).iter();
            let mut accept = accept.filter_map(|line| line.to_str().ok());
            accept.any(|line| line.contains("application/json"))
        }
    };
    if !is_json {
        let place = stream_place(&app, &caller)?;
        let stream = follow(app, after, place);
        let keep_alive = KeepAlive::new().interval(STREAM_KEEP_ALIVE);
        return Ok(Sse::new(stream).keep_alive(keep_alive).into_response());
    }
    let limit = question.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let events = app.store.events(after, limit).await?;
    let events: Vec<_> = events
        .iter()
        .map(|(cursor, event)| shown(*cursor, event))
        .collect();
    Ok(Json(events).into_response())
}

fn shown(cursor: Cursor, event: &Entry) -> serde_json::Value {
    let mut value = serde_json::json!(event);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("cursor".to_owned(), cursor.to_string().into());
    }
    value
}

/// The position of a stream.
struct Place {
    app: Arc<App>,
    after: Option<Cursor>,
    _place: Share,
}

/// Events after a cursor, or from the latest ones on, until the client leaves or the process stops.
fn follow(
    app: Arc<App>,
    after: Option<Cursor>,
    place: Share,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let place = Place {
        app,
        after,
        _place: place,
    };
    stream::unfold(place, |mut place| async move {
        let mut stopping = place.app.stopping.clone();
        let batch = tokio::select! {
            batch = next(&place.app, place.after) => batch,
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        if let Some((last, _)) = batch.last() {
            place.after = Some(*last);
        }
        let events: Vec<_> = batch
            .into_iter()
            .map(|(cursor, event)| {
                let data = shown(cursor, &event).to_string();
                Ok(sse::Event::default().id(cursor.to_string()).data(data))
            })
            .collect();
        Some((stream::iter(events), place))
    })
    .flatten()
}

/// The next events; waits for them, and while the store is away.
async fn next(app: &App, after: Option<Cursor>) -> Vec<(Cursor, Entry)> {
    loop {
        let changed = app.events_changed.notified();
        match app.store.events(after, LIMIT).await {
            Ok(events) if !events.is_empty() => return events,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "event stream waits for the store"),
        }
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
