//! Time → records that have expired are freed, by the companion that leads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::moment;
use crate::leadership::Role;
use crate::metrics::Metrics;
use crate::store::{Housekeeping, StoreError};

/// How often expired records are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Frees expired records, for ever, while this companion leads.
pub(super) async fn sweep(
    store: Arc<dyn Housekeeping>,
    role: watch::Receiver<Role>,
    metrics: Arc<Metrics>,
) {
    let mut doubted = false;
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if role.borrow().term().is_none() {
            doubted = false;
            metrics.clock_doubted_seconds.set(0.0);
            continue;
        }
        match sweep_once(&*store, &mut doubted, &metrics).await {
            Ok(swept) => drop(metrics.records_swept.inc_by(swept)),
            Err(error) => tracing::debug!(%error, "expired records wait for the store"),
        }
    }
}

/// Frees what has expired by the store's time as well as ours, and says once when they part, and when no longer.
async fn sweep_once(
    store: &dyn Housekeeping,
    doubted: &mut bool,
    metrics: &Metrics,
) -> Result<u64, StoreError> {
    let settled = store.settled(moment()).await?;
    let ahead_ms = settled.doubted_ms.unwrap_or(0);
    let ahead = Duration::from_millis(ahead_ms);
    metrics.clock_doubted_seconds.set(ahead.as_secs_f64());
    match (*doubted, settled.doubted_ms.is_some()) {
        (false, true) => {
            metrics.clock_doubts.inc();
            tracing::warn!(
                ahead_ms,
                "this machine's clock is ahead of what its store knows: nothing that expires later is freed. Set the \
                 clock; if it is right, `unitring unit repair --clocks` says so"
            );
        }
        (true, false) => tracing::info!("this machine's clock is what its store knows again"),
        _ => {}
    }
    *doubted = settled.doubted_ms.is_some();
    store.sweep(settled.until_ms).await
}
