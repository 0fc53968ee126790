//! Follows the registry: removes what expired, and hands each new revision to its subscribers.
//!
//! Invariant: while the store is away the last registry stays in force; no subscriber gets an empty
//! one because of that.
//!
//! Whether anything may expire decides `grace`; this is the shell.

mod grace;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::grace::{Grace, RENEWAL_GRACE};

use crate::clock::{moment, now_ms, timer};
use crate::door::strain::Strain;
use crate::leadership::Role;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::store::{Store, StoreError};

/// How often another companion's changes and expiries are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs for ever; the last registry that was read is in `sender`, `None` before the first.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    changed: Arc<Notify>,
    sender: watch::Sender<Option<Arc<Registry>>>,
    metrics: Arc<Metrics>,
    role: watch::Receiver<Role>,
    strain: Arc<Strain>,
) {
    let mut grace = Grace::new(timer());
    loop {
        let refused = strain.ago_ms(now_ms()).map(Duration::from_millis);
        if refused.is_some_and(|ago| grace.refused(ago, timer())) {
            // Always for the whole time, so that this does not shorten the hold of another companion.
            if let Err(error) = store.hold_expiry(RENEWAL_GRACE).await {
                tracing::debug!(%error, "the other companions could not be told that this one refuses requests");
            }
        }
        if *role.borrow() != Role::Follower {
            let settled = store.settled(moment()).await;
            let doubted = settled.is_ok_and(|settled| settled.doubted_ms.is_some());
            grace.clock(doubted, timer());
        }
        let may_expire = grace.may_expire(*role.borrow(), timer());
        match look(&*store, &sender, &metrics, may_expire).await {
            Ok(()) => grace.answered(timer()),
            Err(error) => {
                metrics.store_errors.inc();
                if grace.away(timer()) {
                    tracing::warn!(%error, "registry unreadable: the last one stays in force");
                }
            }
        }
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(
    store: &dyn Store,
    sender: &watch::Sender<Option<Arc<Registry>>>,
    metrics: &Metrics,
    may_expire: bool,
) -> Result<(), StoreError> {
    let expired = if may_expire {
        store.expire(now_ms()).await?
    } else {
        0
    };
    if expired > 0 {
        metrics.instances_expired.inc_by(expired);
        tracing::info!(expired, "instances expired");
    }
    let revision = store.revision().await?;
    let known = sender.borrow().as_ref().map(|registry| registry.revision);
    if known != Some(revision) {
        let registry = store.registry().await?;
        sender.send_replace(Some(Arc::new(registry)));
    }
    Ok(())
}
