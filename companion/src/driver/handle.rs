//! What the rest of the process sees of sync: whether a write may come in, that one did, and how
//! things are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::config::SyncSettings;
use crate::store::StoreError;

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

/// One comparison of digests with another unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Buckets at equal positions on both sides.
    pub comparable: usize,
    /// Buckets of these that differ.
    pub diverged: BTreeSet<u8>,
    /// Buckets in which this unit is behind the other.
    pub behind: BTreeSet<u8>,
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
}
