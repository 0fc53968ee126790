//! Which of several companions of one unit leads: the leader alone syncs the outbox, removes what
//! has expired, and watches the group. All of them take writes.
//!
//! The lead is a lease in the store, by the store's own clock. By its own clock the holder stops
//! before the store grants the lease to another. Its work that is still under way then is idempotent,
//! or carries its term, which the store compares.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::metrics::Metrics;
use crate::store::Leadership;

/// How often the leader renews the lease, and a follower asks for it.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long a leader trusts its lease after it last asked for it.
const TRUSTED_FOR: Duration = Duration::from_millis(2_500);

/// The role of a companion in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
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
    pub fn term(self) -> Option<u64> {
        match self {
            Self::Leader(term) => Some(term),
            Self::Unknown | Self::Follower => None,
        }
    }

    /// The role's name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Leader(_) => "leader",
            Self::Follower => "follower",
        }
    }
}

/// Asks for the lease until the process stops, then releases it and drops `done`. `me` must be
/// unique to the process.
pub async fn run(
    store: Arc<dyn Leadership>,
    me: String,
    role: watch::Sender<Role>,
    metrics: Arc<Metrics>,
    mut stopping: watch::Receiver<bool>,
    done: oneshot::Sender<()>,
) {
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trusted_until = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tokio::time::sleep_until(trusted_until), if role.borrow().term().is_some() => {
                change(&role, &metrics, Role::Unknown);
                continue;
            }
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
        let asked = Instant::now();
        // A leader without an answer stops when its lease ends, not when the answer is due.
        let limit = match role.borrow().term() {
            Some(_) => trusted_until,
            None => asked + TRUSTED_FOR,
        };
        let answer = tokio::time::timeout_at(limit, store.lead(&me)).await;
        match answer {
            Ok(Ok(Some(term))) => {
                trusted_until = asked + TRUSTED_FOR;
                change(&role, &metrics, Role::Leader(term));
            }
            Ok(Ok(None)) => change(&role, &metrics, Role::Follower),
            // The leader keeps its role until the lease ends; a follower no longer knows.
            Ok(Err(_)) | Err(_) if Instant::now() < trusted_until => {}
            Ok(Err(_)) | Err(_) => change(&role, &metrics, Role::Unknown),
        }
    }
    if role.borrow().term().is_some() {
        // Otherwise the next leader would wait for the lease to end.
        if let Err(error) = store.resign(&me).await {
            tracing::debug!(%error, "the lease was not released; it expires by itself");
        }
        change(&role, &metrics, Role::Unknown);
    }
    drop(done);
    // A task that returns counts as failed, so this one stays until the process ends.
    std::future::pending().await
}

fn change(sender: &watch::Sender<Role>, metrics: &Metrics, role: Role) {
    let changed = sender.send_if_modified(|before| {
        let changed = *before != role;
        *before = role;
        changed
    });
    if changed {
        metrics.leader.set(u64::from(role.term().is_some()));
        tracing::info!(role = role.as_str(), term = role.term(), "role changed");
    }
}
