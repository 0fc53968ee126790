//! What the rest of the process sees of sync: whether a write may come in, that one did, and how
//! things are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{Notify, watch};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::RecordId;

use super::lag::{Lag, Lags};
use super::machine::compare::Comparison;
use crate::config::SyncSettings;
use crate::metrics::ShownLink;
use crate::store::{Backlog, StoreError};

/// A link that is well.
pub(super) const UP: &str = "ok";
/// How far over its bound an outbox may be before writes are refused: whoever leads shortens it long before.
const OUTBOX_OVER: u64 = 2;

/// Records set aside that are named; more are counted.
const ASIDE_MAX: usize = 64;

/// How a link is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// `ok`, `removed`, or why nothing can be sent.
    pub state: String,
    /// Ops that the broker has for the unit, since the beginning.
    pub confirmed: u64,
    /// The last comparison of digests with it.
    pub compared: Option<Comparison>,
    /// How long its changes take until they are here.
    pub lag: Option<Lag>,
    /// How far its clock is ahead of ours, in ms.
    pub clock_skew_ms: Option<i64>,
    /// Whether that is too much.
    pub clock_skew_alarm: bool,
    /// Records that are too large for its broker, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unsendable: BTreeMap<String, String>,
}

impl LinkStatus {
    /// As the metrics show it.
    pub fn shown(&self) -> ShownLink {
        let compared = self.compared.as_ref();
        ShownLink {
            is_up: self.state == UP,
            confirmed: self.confirmed,
            missing_ops: compared.map(|compared| compared.missing),
            diverged_buckets: compared.map(|compared| compared.diverged.len()),
            clock_skew_ms: self.clock_skew_ms,
            lag_ms: self.lag.map(|lag| [lag.p50_ms, lag.p99_ms]),
        }
    }
}

/// Who sends here and is no member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stranger {
    /// Messages of it that were set aside.
    pub messages: u64,
    /// When the last one came, in ms since the Unix epoch.
    pub last_ms: u64,
}

/// How sync is, as `/v1/units` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `ok`, or why this unit is cut off from all others.
    pub link: String,
    /// `ok`, or why this unit's own queue is not read.
    pub inbox: String,
    /// The other units.
    pub peers: Vec<String>,
    /// By unit: how the link to it is.
    pub links: BTreeMap<UnitId, LinkStatus>,
    /// Ops that wait for the broker's confirm.
    pub outbox: u64,
    /// How many may.
    pub outbox_max: u64,
    /// Bytes of them, about.
    pub outbox_bytes: u64,
    /// Records changed by repairs since the process started.
    pub repaired_records: u64,
    /// Records that were not taken, by unit and name: why. At most 64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_aside: BTreeMap<String, String>,
    /// Who sends here and is no member; at most 64 are named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub strangers: BTreeMap<UnitId, Stranger>,
    /// Units in whose name two stores speak, and when that was last seen, in ms since the Unix epoch: two units of
    /// one name, or two groups at one broker.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namesakes: BTreeMap<UnitId, u64>,
}

impl Status {
    pub(super) fn begin(&mut self, peers: &[UnitId], removed: &BTreeSet<UnitId>, out: bool) {
        "not connected yet".clone_into(&mut self.inbox);
        self.links.retain(|unit, _| peers.contains(unit));
        for peer in peers {
            let state = if removed.contains(peer) {
                "removed"
            } else {
                "not connected yet"
            };
            let link = self.links.entry(peer.clone()).or_default();
            state.clone_into(&mut link.state);
        }
        if out {
            "removed from the group".clone_into(&mut self.inbox);
        }
        self.judge();
    }

    /// This companion does not lead, or does not know.
    pub(super) fn end(&mut self) {
        "another companion of the unit syncs".clone_into(&mut self.link);
        self.inbox.clone_from(&self.link);
        for link in self.links.values_mut() {
            link.state.clone_from(&self.link);
        }
    }

    pub(super) fn link_is(&mut self, unit: &UnitId, state: &str) -> bool {
        let link = self.links.entry(unit.clone()).or_default();
        let is_new = link.state != state;
        state.clone_into(&mut link.state);
        self.judge();
        is_new
    }

    pub(super) fn inbox_is(&mut self, state: &str) -> bool {
        let is_new = self.inbox != state;
        state.clone_into(&mut self.inbox);
        self.judge();
        is_new
    }

    /// One other unit that cannot be reached does not cut this one off; all of them do, or its own queue.
    fn judge(&mut self) {
        let mut members = self.links.values().filter(|link| link.state != "removed");
        let first = members.clone().find(|link| link.state != UP);
        let is_any_up = members.any(|link| link.state == UP);
        self.link = match first {
            _ if self.inbox != UP => self.inbox.clone(),
            Some(link) if !is_any_up => link.state.clone(),
            _ => UP.to_owned(),
        };
    }

    /// Whether it is new.
    pub(super) fn set_aside(&mut self, from: &UnitId, record: &str, why: &str) -> bool {
        let name = format!("{from}: {record}");
        if self.set_aside.contains_key(&name) || self.set_aside.len() >= ASIDE_MAX {
            return false;
        }
        self.set_aside.insert(name, why.to_owned());
        true
    }

    /// Whether it is new.
    pub(super) fn stranger(&mut self, unit: &UnitId, now_ms: u64) -> bool {
        let is_new = !self.strangers.contains_key(unit);
        if is_new && self.strangers.len() >= ASIDE_MAX {
            return false;
        }
        let stranger = self.strangers.entry(unit.clone()).or_default();
        stranger.messages = stranger.messages.saturating_add(1);
        stranger.last_ms = now_ms;
        is_new
    }

    /// Whether it is new.
    pub(super) fn namesake(&mut self, unit: &UnitId, now_ms: u64) -> bool {
        self.namesakes.insert(unit.clone(), now_ms).is_none()
    }

    pub(super) fn unsendable(
        &mut self,
        unit: &UnitId,
        limit: usize,
        records: &BTreeMap<RecordId, usize>,
    ) {
        if let Some(link) = self.links.get_mut(unit) {
            let why =
                |bytes: &usize| format!("{bytes} bytes in a message, its broker takes {limit}");
            let named = records
                .iter()
                .map(|(id, bytes)| (id.to_string(), why(bytes)));
            link.unsendable = named.collect();
        }
    }

    pub(super) fn compared(&mut self, unit: &UnitId, comparison: Comparison) {
        if let Some(link) = self.links.get_mut(unit) {
            link.compared = Some(comparison);
        }
    }

    pub(super) fn skew(&mut self, unit: &UnitId, skew_ms: i64, is_over: bool) {
        if let Some(link) = self.links.get_mut(unit) {
            link.clock_skew_ms = Some(skew_ms);
            link.clock_skew_alarm = is_over;
        }
    }

    pub(super) fn confirmed(&mut self, confirmed: BTreeMap<UnitId, u64>) {
        for (unit, ops) in confirmed {
            if let Some(link) = self.links.get_mut(&unit) {
                link.confirmed = ops;
            }
        }
    }
}

/// The rest of the process's end of sync.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    status: watch::Receiver<Status>,
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
    /// What they take, about, as it was counted last.
    pub(super) waiting_bytes: AtomicU64,
    outbox_max: u64,
    outbox_bytes_max: u64,
    lags: Mutex<Lags>,
    /// Whether this unit was removed from its group, as its store says.
    pub(super) is_removed: AtomicBool,
}

impl Handle {
    /// Both ends of it.
    pub fn new(settings: &SyncSettings) -> (Self, watch::Sender<Status>) {
        let peers = settings.peers.iter().map(ToString::to_string).collect();
        let (sender, status) = watch::channel(Status {
            link: "not connected yet".to_owned(),
            inbox: "not connected yet".to_owned(),
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
            outbox_max: settings.outbox_max,
            outbox_bytes_max: settings.outbox_bytes_max,
            lags: Mutex::default(),
            is_removed: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        (Self { shared, status }, sender)
    }

    /// Whether one more write may come in.
    ///
    /// # Errors
    /// [`StoreError::OutboxFull`].
    pub fn admit(&self) -> Result<(), StoreError> {
        if self.shared.is_removed.load(Ordering::Relaxed) {
            return Err(StoreError::Removed);
        }
        let waiting = self.shared.waiting.load(Ordering::Relaxed);
        let max = self.shared.outbox_max.saturating_mul(OUTBOX_OVER);
        if waiting >= max {
            return Err(StoreError::OutboxFull { waiting, max });
        }
        let bytes = self.shared.waiting_bytes.load(Ordering::Relaxed);
        let max = self.shared.outbox_bytes_max.saturating_mul(OUTBOX_OVER);
        if bytes >= max {
            return Err(StoreError::OutboxBytesFull { bytes, max });
        }
        Ok(())
    }

    /// A write of so many bytes came in.
    pub fn written(&self, bucket: u8, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.shared
            .waiting_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.shared.written.fetch_add(1, Ordering::Relaxed);
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.lock_dirty().insert(bucket);
        self.shared.wake.notify_one();
    }

    /// How sync is.
    pub fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.outbox = self.shared.waiting.load(Ordering::Relaxed);
        status.outbox_bytes = self.shared.waiting_bytes.load(Ordering::Relaxed);
        let lags = self.shared.lags();
        for (unit, link) in &mut status.links {
            link.lag = lags.of(unit);
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

    /// The store was counted; what was written since may or may not be in it, and is added: too
    /// many for a moment rather than too few.
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
