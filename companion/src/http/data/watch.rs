//! `GET /v1/data/{dataset}?watch=true`: changes of records as server-sent events, which resume at
//! the client's position.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt as _};
use serde_json::json;
use tokio::sync::broadcast;
use unitring_protocol::ids::DatasetName;

use super::super::App;
use super::super::answer::Refusal;
use super::super::entry::{STREAM_KEEP_ALIVE, stream_place};
use super::listing::shown;
use crate::changefeed::{News, Positions, Step};
use crate::door::Caller;
use crate::door::kept::Share;
use crate::store::StoreError;

/// The pause before a retry while the store is away.
const RETRY_EVERY: Duration = Duration::from_millis(500);

struct Watcher {
    app: Arc<App>,
    dataset: DatasetName,
    prefix: String,
    told: broadcast::Receiver<Arc<News>>,
    /// `None` before the first read.
    positions: Option<Positions>,
    /// Whether the watcher may have missed changes of the channel, and must read from the store.
    is_behind: bool,
    _place: Share,
}

pub(super) fn watch(
    app: Arc<App>,
    dataset: DatasetName,
    prefix: String,
    headers: &HeaderMap,
    caller: &Caller,
) -> Result<Response, Refusal> {
    let last = headers
        .get("last-event-id")
        .map(|id| id.to_str().unwrap_or(""));
    let bad = |rule: String| Refusal::bad(format!("last-event-id: {rule}"));
    let positions: Option<Positions> = last.map(str::parse).transpose().map_err(bad)?;
    let place = stream_place(&app, caller)?;
    let watcher = Watcher {
        told: app.follower.watch(),
        app,
        dataset,
        prefix,
        is_behind: positions.is_some(),
        positions,
        _place: place,
    };
    let keep_alive = KeepAlive::new().interval(STREAM_KEEP_ALIVE);
    let stream = Sse::new(events(watcher)).keep_alive(keep_alive);
    Ok(stream.into_response())
}

/// The events of a watcher, until the client leaves or the process stops.
fn events(watcher: Watcher) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold(watcher, |mut watcher| async move {
        let mut stopping = watcher.app.stopping.clone();
        let events = tokio::select! {
            events = watcher.next() => events,
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        Some((stream::iter(events.into_iter().map(Ok)), watcher))
    })
    .flatten()
}

impl Watcher {
    /// The next events; waits while the store is away.
    async fn next(&mut self) -> Vec<sse::Event> {
        loop {
            match self.look().await {
                Ok(Some(news)) => return self.shown(&news),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "a watcher waits for the store");
                    self.is_behind = true;
                    tokio::time::sleep(RETRY_EVERY).await;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<Option<News>, StoreError> {
        let store = Arc::clone(&self.app.store);
        let Some(positions) = &mut self.positions else {
            // The first event has the current positions, so that no change is missed after it.
            self.positions = Some(Positions::now(&*store, &self.app.unit).await?);
            return Ok(Some(News::default()));
        };
        if std::mem::take(&mut self.is_behind) {
            return Ok(Some(positions.resume(&*store, &self.app.unit).await?));
        }
        match self.told.recv().await {
            Ok(told) => Ok(Some(positions.follow(&told, &*store).await?)),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.is_behind = true;
                self.app.metrics.watchers_behind.inc();
                Ok(None)
            }
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Only the last event has the id: a client that is cut off before it gets all of them again.
    fn shown(&self, news: &News) -> Vec<sse::Event> {
        let mut events = Vec::new();
        if news.missed {
            events.push(json!({"change": "missed"}));
        }
        let is_ours = |step: &&Step| {
            let id = &step.record.id;
            id.dataset == self.dataset && id.key.as_str().starts_with(&self.prefix)
        };
        for step in news.steps.iter().filter(is_ours) {
            let mut event = shown(&step.record);
            let change = if step.record.mark.is_deleted {
                "delete"
            } else {
                "put"
            };
            if let Some(fields) = event.as_object_mut() {
                fields.insert("change".to_owned(), change.into());
            }
            events.push(event);
        }
        let mut events: Vec<sse::Event> = events
            .iter()
            .map(|event| sse::Event::default().data(event.to_string()))
            .collect();
        let Some(positions) = &self.positions else {
            return events;
        };
        let id = positions.to_string();
        match events.pop() {
            Some(last) => events.push(last.id(id)),
            // A client takes the id of an event without data, too.
            None => events.push(sse::Event::default().id(id)),
        }
        events
    }
}
