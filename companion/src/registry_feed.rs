//! Follows the registry: removes what expired, and hands each new revision to its subscribers.
//!
//! Invariant: while the store is away the last registry stays in force; no subscriber gets an empty
//! one because of that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::clock::now_ms;
use crate::door::strain::Strain;
use crate::leadership::Role;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::store::{Store, StoreError};

/// How often another companion's changes and expiries are looked for.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After a start or an outage nothing expires for this long, and as long again as the outage: while
/// the store was away no instance could renew. The same after a refused request: it may have been a heartbeat.
pub const RENEWAL_GRACE: Duration = Duration::from_secs(30);

/// Within this time the other companions of the unit learn that this one refuses requests.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Runs for ever; the last registry that was read is in `sender`, `None` before the first.
pub async fn run(
    store: Arc<dyn Store>,
    changed: Arc<Notify>,
    sender: watch::Sender<Option<Arc<Registry>>>,
    metrics: Arc<Metrics>,
    role: watch::Receiver<Role>,
    strain: Arc<Strain>,
) {
    let (mut away_since, mut told) = (None, None);
    let mut grace_until = Instant::now() + RENEWAL_GRACE;
    loop {
        if let Some(ago_ms) = strain
            .ago_ms()
            .filter(|ago_ms| u128::from(*ago_ms) < RENEWAL_GRACE.as_millis())
        {
            let left = RENEWAL_GRACE.saturating_sub(Duration::from_millis(ago_ms));
            grace_until = grace_until.max(Instant::now() + left);
            // The leader must not expire instances that renew here. Always for the whole time, so that this does not
            // shorten the hold of another companion.
            let is_new = u128::from(ago_ms) < TELL_EVERY.as_millis();
            if is_new && told.is_none_or(|told: Instant| told.elapsed() >= TELL_EVERY / 2) {
                told = Some(Instant::now());
                if let Err(error) = store.hold_expiry(RENEWAL_GRACE).await {
                    tracing::debug!(%error, "the other companions could not be told that this one refuses requests");
                }
            }
        }
        let is_ours = *role.borrow() != Role::Follower;
        let may_expire = is_ours && away_since.is_none() && Instant::now() >= grace_until;
        match look(&*store, &sender, &metrics, may_expire).await {
            Ok(()) => {
                if let Some(since) = away_since.take() {
                    let now = Instant::now();
                    grace_until = now + RENEWAL_GRACE + now.duration_since(since);
                }
            }
            Err(error) => {
                metrics.store_errors.inc();
                if away_since.is_none() {
                    tracing::warn!(%error, "registry unreadable: the last one stays in force");
                }
                away_since.get_or_insert_with(Instant::now);
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
