//! What goes by itself: what has expired, and tombstones that nobody needs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Position;

use super::StoreError;

/// Records of a bucket that one look frees.
pub const SWEPT_MAX: usize = 200;
/// Tombstones and expired records of a bucket that one step forgets.
pub const COLLECTED_MAX: usize = 1_000;

/// What goes by itself: what has expired, and tombstones that nobody needs.
#[async_trait]
pub trait Housekeeping: Send + Sync {
    /// Frees what has expired, as much as fits one look. Where the unit has no peers that must learn of
    /// it, nothing of it is kept. Answers how many records.
    async fn sweep(&self, now_ms: u64) -> Result<u64, StoreError>;

    /// Forgets what was gone before this moment, at most [`COLLECTED_MAX`] of it: every member must have
    /// had these positions. Answers how many.
    async fn collect(
        &self,
        bucket: u8,
        before_ms: u64,
        fence: &BTreeMap<UnitId, Position>,
    ) -> Result<u64, StoreError>;

    /// Removes what has expired: instances, with an event each, reports, and counters of instances
    /// that nobody knows. Answers how many instances.
    async fn expire(&self, now_ms: u64) -> Result<u64, StoreError>;

    /// Gives the space of what was deleted back to the file system; nothing else is done meanwhile. `None` where the
    /// server does so by itself.
    async fn compact(&self) -> Result<Option<Compacted>, StoreError>;
}

/// What [`Housekeeping::compact`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the file before.
    pub before: u64,
    /// And after.
    pub after: u64,
}

/// Whether it is so long since it was due last; then it counts as done.
pub(super) fn is_due(last_ms: &AtomicU64, every_ms: u64, now_ms: u64) -> bool {
    let is_due = now_ms.saturating_sub(last_ms.load(Ordering::Relaxed)) >= every_ms;
    if is_due {
        last_ms.store(now_ms, Ordering::Relaxed);
    }
    is_due
}
