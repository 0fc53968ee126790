//! Decides when this companion syncs: while it leads its unit and the unit is a member of the
//! group. A follower only hints to the leader which buckets it wrote.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use unitring_protocol::ids::UnitId;

use super::handle::Handle;
use super::links::amqp;
use super::session::Session;
use super::status::Status;
use super::{Parts, members};
use crate::clock::now_ms;
use crate::config::SyncSettings;
use crate::leadership::Role;

/// How often membership and the outboxes are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One unit's sync, with the parts of the process that it uses.
pub(crate) struct Driver {
    pub(super) unit: UnitId,
    pub(super) settings: SyncSettings,
    pub(super) access: amqp::Access,
    pub(super) parts: Parts,
    pub(super) handle: Handle,
    pub(super) status: watch::Sender<Status>,
    role: watch::Receiver<Role>,
}

impl Driver {
    /// A driver with its end of the handle.
    pub(crate) fn new(
        unit: UnitId,
        settings: SyncSettings,
        access: amqp::Access,
        parts: Parts,
        (handle, status): (Handle, watch::Sender<Status>),
        role: watch::Receiver<Role>,
    ) -> Self {
        Self {
            unit,
            settings,
            access,
            parts,
            handle,
            status,
            role,
        }
    }

    /// Runs for ever: syncs while this companion leads, and hints to the leader while it follows.
    pub(crate) async fn run(mut self) {
        loop {
            let Some(term) = self.role.borrow_and_update().term() else {
                self.follow().await;
                continue;
            };
            let removed = match self.removed().await {
                Some(removed) => removed,
                None => continue,
            };
            let is_removed = removed.contains(&self.unit);
            let shared = &self.handle.shared;
            shared.is_removed.store(is_removed, Ordering::Relaxed);
            self.status.send_modify(|status| {
                status.begin(&self.settings.peers, &removed, is_removed);
            });
            if is_removed {
                tracing::warn!(unit = %self.unit, "this unit was removed from its group: it does not sync");
                self.stay_out().await;
                continue;
            }
            let mut session = Session::start(&self, term, removed);
            session.run(&mut self.role).await;
            self.parts.metrics.link_up.set(0);
            self.status.send_modify(Status::end);
        }
    }

    /// Hints to the leader which buckets were written here, until the role changes.
    async fn follow(&mut self) {
        let shared = Arc::clone(&self.handle.shared);
        let mut count = tokio::time::interval(LOOK_EVERY);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.status.send_modify(Status::end);
        loop {
            tokio::select! {
                changed = self.role.changed() => {
                    return if changed.is_err() { std::future::pending().await };
                }
                _ = count.tick() => {
                    // A follower, too, refuses writes over the bound if no companion leads for
                    // long.
                    let before = shared.written.load(Ordering::Relaxed);
                    if let Ok(waiting) = self.parts.store.waiting().await {
                        shared.counted(&waiting, before);
                    }
                    if let Ok(is_out) = members::is_out(&*self.parts.store, &self.unit, now_ms()).await {
                        shared.is_removed.store(is_out, Ordering::Relaxed);
                    }
                }
                () = shared.wake.notified() => {
                    let buckets = shared.take_dirty();
                    if *self.role.borrow() != Role::Follower {
                        // A new leader counts the outboxes, which finds these buckets.
                        continue;
                    }
                    for bucket in buckets {
                        // The leader's next count makes up for a lost hint.
                        if self.parts.store.hint(bucket).await.is_err() {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// The units that left the group; waits for the store. `None` if the role changed.
    async fn removed(&mut self) -> Option<BTreeSet<UnitId>> {
        loop {
            let (store, peers) = (&*self.parts.store, &self.settings.peers);
            match members::removed(store, peers, &self.unit, now_ms()).await {
                Ok(removed) => return Some(removed),
                Err(error) => tracing::debug!(%error, "sync waits for the store"),
            }
            tokio::select! {
                _ = self.role.changed() => return None,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Returns once this unit is a member again, or the role changes. Until then the broker knows that it runs, so
    /// that no other unit adds it with its old store.
    async fn stay_out(&mut self) {
        let (unit, url) = (self.unit.clone(), self.settings.amqp_url.clone());
        let access = self.access.clone();
        let held = amqp::presence::hold(&unit, &url, &access);
        tokio::pin!(held);
        loop {
            tokio::select! {
                _ = self.role.changed() => return,
                never = &mut held => match never {},
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match self.removed().await {
                Some(removed) if removed.contains(&self.unit) => {}
                _ => return,
            }
        }
    }
}
