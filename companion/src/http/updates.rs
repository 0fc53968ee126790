//! `POST /v1/updates`: data updates that instances announced to a filter. Each is stored by itself, once, with its
//! entry in the outbox; the answer lists the updates that are not.
//!
//! [`crate::replica::stamps`] decides which updates were applied before or come too late. A batch that was read is
//! finished even if its sender hangs up: a filter that restarts has told its clients that the updates were made.

mod batch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use futures::StreamExt as _;
use tracing::Instrument as _;
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::updates::{Failed, Updated};

use super::App;
use super::answer::Refusal;
use super::data::write;
use super::entry::Held;
use crate::clock::now_ms;
use crate::door::Caller;
use crate::metrics::UpdateOutcome;
use crate::replica::{Source, Stamp};
use crate::store::{Change, Condition, Outcome};
use batch::{Announced, Batch};

/// Most concurrent writes of a batch.
const AT_A_TIME: usize = 64;
/// The log has a line about refused updates at most this often: a service that announces one wrongly does so with
/// every answer.
const TOLD_EVERY_MS: u64 = 10_000;

/// Which refused updates the log does not have yet.
#[derive(Debug, Default)]
pub(crate) struct RefusedUpdates {
    told_ms: AtomicU64,
    untold: AtomicU64,
}

impl RefusedUpdates {
    /// Counts refused updates. Returns how many are not logged yet, if it is time to log.
    fn count(&self, refused: u64, now_ms: u64) -> Option<u64> {
        self.untold.fetch_add(refused, Ordering::Relaxed);
        let told_ms = self.told_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(told_ms) >= TOLD_EVERY_MS;
        let tells = is_due
            && self
                .told_ms
                .compare_exchange(told_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        tells.then(|| self.untold.swap(0, Ordering::Relaxed))
    }
}

pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(held): Extension<Held>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Updated>, Refusal> {
    let batch = Batch::read(&body?).inspect_err(|refusal| {
        if let Some(refused) = app.refused_updates.count(1, now_ms()) {
            let (client, why) = (caller.principal(), refusal.error());
            tracing::warn!(%client, refused, why, "a batch of data updates is refused");
        }
    })?;
    let work = async move {
        let updated = apply(&app, &caller, batch).await;
        // The batch keeps its place among the requests at work until here, even if its sender is gone.
        drop(held);
        updated
    };
    let work = tokio::spawn(work.in_current_span());
    let failed = |error: tokio::task::JoinError| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    };
    Ok(Json(work.await.map_err(failed)?))
}

/// Makes the updates of a batch, several at once: their stamps, not their order here, decide which is last.
async fn apply(app: &App, caller: &Caller, batch: Batch) -> Updated {
    let Batch {
        source: name,
        vm,
        service,
        updates,
        ..
    } = batch;
    // An Envoy without a credential is the same source at any address.
    let client = match caller.is_known() {
        true => caller.principal().to_string(),
        false => String::new(),
    };
    let source = Source::of(&client, name.as_str());
    let results = updates.into_iter().map(async |update| {
        let stamp = Stamp {
            source,
            sequence: update.sequence,
            vm,
        };
        let dataset = update.dataset.clone();
        (
            stamp.sequence,
            dataset,
            made(app, caller, stamp, update).await,
        )
    });
    let mut results = futures::stream::iter(results).buffered(AT_A_TIME);
    let (mut failed, mut first_refused, mut refused) = (Vec::new(), None, 0);
    while let Some((sequence, dataset, result)) = results.next().await {
        let (outcome, refusal) = match result {
            Ok(outcome) => (outcome, None),
            Err(refusal) if refusal.status().is_client_error() => {
                (UpdateOutcome::Refused, Some(refusal))
            }
            Err(refusal) => (UpdateOutcome::Failed, Some(refusal)),
        };
        app.metrics.updates.count(outcome);
        let Some(refusal) = refusal else { continue };
        let error = refusal.error().to_owned();
        if outcome == UpdateOutcome::Refused {
            refused += 1;
            first_refused.get_or_insert_with(|| (dataset, error.clone()));
        }
        failed.push(Failed {
            sequence,
            status: refusal.status().as_u16(),
            error,
        });
    }
    if let Some((dataset, why)) = first_refused
        && let Some(refused) = app.refused_updates.count(refused, now_ms())
    {
        let (service, source) = (service.as_str(), name.as_str());
        tracing::warn!(
            service,
            source,
            dataset,
            refused,
            why,
            "data updates are refused"
        );
    }
    Updated {
        version: PROTOCOL_VERSION,
        failed,
    }
}

/// Makes one update, if neither it nor a later one of its source was applied.
async fn made(
    app: &App,
    caller: &Caller,
    stamp: Stamp,
    update: Announced,
) -> Result<UpdateOutcome, Refusal> {
    let ready = update.ready(caller, now_ms())?;
    let change = match &ready.value {
        Some(value) => Change::Put {
            value,
            expires_ms: ready.expires_ms,
        },
        None => Change::Delete,
    };
    match write(app, &ready.id, change, &Condition::After(stamp)).await? {
        Outcome::Done(_) | Outcome::Nothing => {
            let bytes = ready.value.map_or(0, |value| value.len());
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            app.metrics.update_bytes.inc_by(bytes);
            Ok(UpdateOutcome::Applied)
        }
        // No version is a condition here.
        Outcome::Overtaken | Outcome::Refused(_) => Ok(UpdateOutcome::Repeated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_updates_are_told_at_most_every_ten_seconds_and_none_is_left_out() {
        let refused = RefusedUpdates::default();
        assert_eq!(refused.count(3, 100_000), Some(3));
        assert_eq!(refused.count(2, 100_000 + TOLD_EVERY_MS - 1), None);
        assert_eq!(refused.count(5, 100_000 + TOLD_EVERY_MS), Some(7));
        assert_eq!(refused.count(1, 100_000 + TOLD_EVERY_MS + 1), None);
    }
}
