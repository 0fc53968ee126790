//! What the rest of the process sees of sync: whether a write may come in, that one did, and how
//! things are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::config::SyncSettings;
use crate::store::StoreError;
use crate::unit::compare::Comparison;

/// How sync is, as `/v1/units` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `ok`, or why there is no link to the broker.
    pub link: String,
    /// The other units.
    pub peers: Vec<String>,
    /// Ops that wait for the broker's confirm.
    pub outbox: u64,
    /// How many may.
    pub outbox_max: u64,
    /// By unit: the last comparison of digests.
    pub compared: BTreeMap<String, Comparison>,
    /// Records changed by repairs since the process started.
    pub repaired_records: u64,
}

/// The rest of the process's end of sync.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) status: watch::Receiver<Status>,
}

/// What both ends share.
pub(super) struct Shared {
    /// Buckets written since the driver last looked: a set, so that it is bounded and loses none.
    dirty: Mutex<BTreeSet<u8>>,
    pub(super) wake: Notify,
    /// Ops in the outbox: counted now and then, and kept up in between.
    pub(super) waiting: AtomicU64,
    /// Ops that ever went into it.
    pub(super) written: AtomicU64,
    outbox_max: u64,
}

impl Handle {
    /// Both ends of it.
    pub fn new(settings: &SyncSettings) -> (Self, watch::Sender<Status>) {
        let peers = settings.peers.iter().map(ToString::to_string).collect();
        let (sender, status) = watch::channel(Status {
            link: "not connected yet".to_owned(),
            peers,
            outbox_max: settings.outbox_max,
            ..Status::default()
        });
        let shared = Shared {
            dirty: Mutex::default(),
            wake: Notify::new(),
            waiting: AtomicU64::new(0),
            written: AtomicU64::new(0),
            outbox_max: settings.outbox_max,
        };
        let shared = Arc::new(shared);
        (Self { shared, status }, sender)
    }

    /// Whether one more write may come in.
    ///
    /// # Errors
    /// [`StoreError::OutboxFull`].
    pub fn admit(&self) -> Result<(), StoreError> {
        let waiting = self.shared.waiting.load(Ordering::Relaxed);
        let max = self.shared.outbox_max;
        if waiting >= max {
            return Err(StoreError::OutboxFull { waiting, max });
        }
        Ok(())
    }

    /// A write came in.
    pub fn written(&self, bucket: u8) {
        self.shared.written.fetch_add(1, Ordering::Relaxed);
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.lock_dirty().insert(bucket);
        self.shared.wake.notify_one();
    }

    /// How sync is.
    pub fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.outbox = self.shared.waiting.load(Ordering::Relaxed);
        status
    }
}

impl Shared {
    fn lock_dirty(&self) -> std::sync::MutexGuard<'_, BTreeSet<u8>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_dirty(&self) -> BTreeSet<u8> {
        std::mem::take(&mut *self.lock_dirty())
    }

    /// The store was counted; what was written since may or may not be in it, and is added: too
    /// many for a moment rather than too few.
    pub(super) fn counted(&self, waiting: u64, written_before: u64) {
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
