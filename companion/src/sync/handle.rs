//! The interface of sync for the rest of the process: it asks whether a write is admitted, tells that one was stored,
//! and reads the current [`Status`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use unitring_protocol::ids::UnitId;

use super::admission;
use super::lag::Lags;
use super::links::amqp;
use super::status::Status;
use crate::clock;
use crate::config::SyncSettings;
use crate::store::{Backlog, StoreError};

/// The end of sync that the rest of the process holds.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(super) shared: Arc<Shared>,
    status: watch::Receiver<Status>,
    /// The brokers of the peers, and how to connect to them.
    brokers: Arc<(SyncSettings, amqp::Access)>,
}

/// State that both ends share.
pub(super) struct Shared {
    /// Buckets written since the driver last took them. A set is bounded and loses none.
    dirty: Mutex<BTreeSet<u8>>,
    pub(super) wake: Notify,
    /// Ops in the outbox: counted at intervals, and updated in between.
    pub(super) waiting: AtomicU64,
    /// Ops that this process ever wrote into the outbox.
    pub(super) written: AtomicU64,
    /// Estimated bytes of the outbox: counted at intervals, and raised by each write in between.
    pub(super) waiting_bytes: AtomicU64,
    outbox_max: Backlog,
    lags: Mutex<Lags>,
    /// Whether the store says that this unit was removed from its group.
    pub(super) is_removed: AtomicBool,
}

impl Handle {
    /// Both ends of the handle.
    pub(crate) fn new(
        settings: &SyncSettings,
        access: &amqp::Access,
    ) -> (Self, watch::Sender<Status>) {
        let peers = settings.peers.iter().map(ToString::to_string).collect();
        let (sender, status) = watch::channel(Status {
            peers,
            outbox_max: settings.outbox_max,
            ..Status::default()
        });
        let shared = Shared {
            dirty: Mutex::default(),
            wake: Notify::new(),
            waiting: AtomicU64::new(0),
            written: AtomicU64::new(0),
            waiting_bytes: AtomicU64::new(0),
            outbox_max: Backlog {
                ops: settings.outbox_max,
                bytes: settings.outbox_bytes_max,
            },
            lags: Mutex::default(),
            is_removed: AtomicBool::new(false),
        };
        let handle = Self {
            shared: Arc::new(shared),
            status,
            brokers: Arc::new((settings.clone(), access.clone())),
        };
        (handle, sender)
    }

    /// Whether a peer runs; `None` if its broker does not tell.
    pub(crate) async fn runs(&self, peer: &UnitId) -> Option<bool> {
        let (settings, access) = &*self.brokers;
        amqp::presence::runs(peer, settings.broker(peer), access).await
    }

    /// Whether another write is admitted.
    ///
    /// # Errors As [`admission::admit`].
    pub(crate) fn admit(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let waiting = Backlog {
            ops: shared.waiting.load(Ordering::Relaxed),
            bytes: shared.waiting_bytes.load(Ordering::Relaxed),
        };
        let is_removed = shared.is_removed.load(Ordering::Relaxed);
        admission::admit(is_removed, waiting, shared.outbox_max)
    }

    /// A write with a value of `bytes` bytes was stored.
    pub(crate) fn written(&self, bucket: u8, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.shared
            .waiting_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.shared.written.fetch_add(1, Ordering::Relaxed);
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.lock_dirty().insert(bucket);
        self.shared.wake.notify_one();
    }

    /// The current status of sync.
    pub(crate) fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.outbox = self.shared.waiting.load(Ordering::Relaxed);
        status.outbox_bytes = self.shared.waiting_bytes.load(Ordering::Relaxed);
        let (lags, now) = (self.shared.lags(), clock::now());
        for (unit, link) in &mut status.links {
            link.lag = lags.of(unit, now);
        }
        status
    }
}

impl Shared {
    fn lock_dirty(&self) -> MutexGuard<'_, BTreeSet<u8>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lags(&self) -> MutexGuard<'_, Lags> {
        self.lags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_dirty(&self) -> BTreeSet<u8> {
        std::mem::take(&mut *self.lock_dirty())
    }

    /// Takes a count of the store. Writes since the count began may be part of it and are added all
    /// the same: the sum is too high for a moment rather than too low.
    pub(super) fn counted(&self, backlogs: &BTreeMap<u8, Backlog>, written_before: u64) {
        let waiting: u64 = backlogs.values().map(|backlog| backlog.ops).sum();
        let bytes: u64 = backlogs.values().map(|backlog| backlog.bytes).sum();
        self.waiting_bytes.store(bytes, Ordering::Relaxed);
        let since = self
            .written
            .load(Ordering::Relaxed)
            .saturating_sub(written_before);
        self.waiting
            .store(waiting.saturating_add(since), Ordering::Relaxed);
    }

    pub(super) fn trimmed(&self, ops: u64) {
        // Not below zero: a count may have run in between.
        let less = |waiting: u64| waiting.checked_sub(ops);
        let done = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if done.is_err() {
            self.waiting.store(0, Ordering::Relaxed);
        }
    }
}
