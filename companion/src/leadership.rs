//! Which of several companions of one unit leads: one at a time passes the outbox on, lets expire what has
//! expired, and looks after the group. Any of them takes writes.
//!
//! The lead is a lease in the store, by the store's own clock. Whoever holds it stops on its own clock
//! before the store gives it to another; what it still had under way then does no harm twice, and what must
//! not come from a leader of before carries its term, which the store compares.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::metrics::Metrics;
use crate::store::Leadership;

/// How often it is renewed, and asked for by those who do not have it.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long a leader holds itself for one after it last asked.
const TRUSTED_FOR: Duration = Duration::from_millis(2_500);

/// What a companion is in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// The store does not say.
    #[default]
    Unknown,
    /// It leads, in this term: each has a higher number than the one before.
    Leader(u64),
    /// Another leads.
    Follower,
}

impl Role {
    /// The term, if it leads.
    pub fn term(self) -> Option<u64> {
        match self {
            Self::Leader(term) => Some(term),
            Self::Unknown | Self::Follower => None,
        }
    }

    /// As answers show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Leader(_) => "leader",
            Self::Follower => "follower",
        }
    }
}

/// Asks for the lead until the process stops, gives it back then, and says so by dropping `done`. `me` must
/// be another for each process.
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
        // A leader that gets no answer stops when its time is up, and not when the answer is due.
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
            // The lead lasts until its time is up; who follows does not know any more.
            Ok(Err(_)) | Err(_) if Instant::now() < trusted_until => {}
            Ok(Err(_)) | Err(_) => change(&role, &metrics, Role::Unknown),
        }
    }
    if role.borrow().term().is_some() {
        // Without this another waits for the end of the term.
        if let Err(error) = store.resign(&me).await {
            tracing::debug!(%error, "the lead ends by itself");
        }
        change(&role, &metrics, Role::Unknown);
    }
    drop(done);
    // Ended is for tasks that broke; this one waits with the others for the process to end.
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
        tracing::info!(
            role = role.as_str(),
            term = role.term(),
            "companions of this unit"
        );
    }
}
