//! Follows the registry: removes what expired, and hands each new revision to whoever waits.
//!
//! Invariant: while the store is away the last registry stays in force; nobody is told "empty"
//! because of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::Registry;
use crate::metrics::Metrics;
use crate::now_ms;
use crate::store::{Fleet, StoreError};

/// How often another companion's changes and expiries are looked for.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs for ever; the last registry that was read is in `sender`, `None` before the first.
pub async fn run(
    fleet: Arc<dyn Fleet>,
    changed: Arc<Notify>,
    sender: watch::Sender<Option<Arc<Registry>>>,
    metrics: Arc<Metrics>,
) {
    let mut was_away = false;
    loop {
        match look(&*fleet, &sender, &metrics).await {
            Ok(()) => was_away = false,
            Err(error) => {
                metrics.store_errors.inc();
                if !was_away {
                    tracing::warn!(%error, "registry unreadable: the last one stays in force");
                }
                was_away = true;
            }
        }
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(
    fleet: &dyn Fleet,
    sender: &watch::Sender<Option<Arc<Registry>>>,
    metrics: &Metrics,
) -> Result<(), StoreError> {
    let expired = fleet.expire(now_ms()).await?;
    if expired > 0 {
        metrics.instances_expired.inc_by(expired);
        tracing::info!(expired, "instances expired");
    }
    let revision = fleet.revision().await?;
    let known = sender.borrow().as_ref().map(|registry| registry.revision);
    if known != Some(revision) {
        let registry = fleet.registry().await?;
        sender.send_replace(Some(Arc::new(registry)));
    }
    Ok(())
}
