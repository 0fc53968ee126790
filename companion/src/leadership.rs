//! Which of several companions of one unit leads: the leader alone syncs the outbox, removes what
//! has expired, and watches the group. All of them take writes.
//!
//! The lead is a lease in the store, by the store's own clock. By its own clock the holder stops
//! before the store grants the lease to another. Its work that is still under way then is idempotent,
//! or carries its term, which the store compares.
//!
//! What the answers mean decides `lease`; this is the shell that asks.

mod lease;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use self::lease::{Answer, Lease};
use crate::clock::timer;
use crate::metrics::Metrics;
use crate::states::UnitRole;
use crate::store::Leadership;

/// How often the leader renews the lease, and a follower asks for it.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(1);

/// The role of a companion in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Role {
    /// The store did not answer.
    #[default]
    Unknown,
    /// It leads, in this term; each term has a higher number than the one before.
    Leader(u64),
    /// Another companion leads.
    Follower,
}

impl Role {
    /// The term, if this companion leads.
    pub(crate) fn term(self) -> Option<u64> {
        match self {
            Self::Leader(term) => Some(term),
            Self::Unknown | Self::Follower => None,
        }
    }

    /// The role as answers show it, without its term.
    pub(crate) fn shown(self) -> UnitRole {
        match self {
            Self::Unknown => UnitRole::Unknown,
            Self::Leader(_) => UnitRole::Leader,
            Self::Follower => UnitRole::Follower,
        }
    }
}

/// Asks for the lease until the process stops, then releases it and drops `done`. `me` must be
/// unique to the process.
pub(crate) async fn run(
    store: Arc<dyn Leadership>,
    me: String,
    role: watch::Sender<Role>,
    metrics: Arc<Metrics>,
    mut stopping: watch::Receiver<bool>,
    done: oneshot::Sender<()>,
) {
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lease = Lease::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = until(&lease) => {
                lease.pass(timer());
                tell(&role, &metrics, lease.role());
                continue;
            }
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
        let asked = timer();
        let answer = tokio::time::timeout_at(lease.patience(asked), store.lead(&me)).await;
        let answer = match answer {
            Ok(Ok(Some(term))) => Answer::Granted(term),
            Ok(Ok(None)) => Answer::Held,
            Ok(Err(_)) | Err(_) => Answer::Nothing,
        };
        lease.answered(answer, asked, timer());
        tell(&role, &metrics, lease.role());
    }
    if lease.role().term().is_some() {
        // Otherwise the next leader would wait for the lease to end.
        if let Err(error) = store.resign(&me).await {
            tracing::debug!(%error, "the lease was not released; it expires by itself");
        }
        lease.give_up();
        tell(&role, &metrics, lease.role());
    }
    drop(done);
    // A task that returns counts as failed, so this one stays until the process ends.
    std::future::pending().await
}

/// Sleeps until the lease ends; for ever if there is none.
async fn until(lease: &Lease) {
    match lease.until() {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn tell(sender: &watch::Sender<Role>, metrics: &Metrics, role: Role) {
    let changed = sender.send_if_modified(|before| {
        let changed = *before != role;
        *before = role;
        changed
    });
    if changed {
        metrics.leader.set(u64::from(role.term().is_some()));
        tracing::info!(
            role = role.shown().as_str(),
            term = role.term(),
            "role changed"
        );
    }
}
