//! Removes what has expired, and tombstones that no member needs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Position;

use super::{Settled, StoreError};
use crate::moment::Moment;

/// Most records of a bucket that one sweep frees.
pub(crate) const SWEPT_MAX: usize = 200;
/// Most tombstones and expired records of a bucket that one step collects.
pub(crate) const COLLECTED_MAX: usize = 1_000;

/// Removes what has expired, and tombstones that no member needs.
#[async_trait]
pub trait Housekeeping: Send + Sync {
    /// Up to when what expires may be freed, at this moment by our clocks: what [`Self::sweep`] and [`Self::collect`] are
    /// given. Our wall clock alone does not decide it.
    async fn settled(&self, moment: Moment) -> Result<Settled, StoreError>;

    /// Frees records that had expired at this time, up to the bound. Where no peer must learn of it, their marks go, too.
    /// Returns how many records.
    async fn sweep(&self, until_ms: u64) -> Result<u64, StoreError>;

    /// Collects records that were gone before this moment, at most [`COLLECTED_MAX`]; every member
    /// must have reached the positions of the fence. Returns how many.
    async fn collect(
        &self,
        bucket: u8,
        before_ms: u64,
        fence: &BTreeMap<UnitId, Position>,
    ) -> Result<u64, StoreError>;

    /// Removes expired instances, with an event each, expired reports, and counters of instances
    /// that no report or registration names. Returns how many instances.
    async fn expire(&self, now_ms: u64) -> Result<u64, StoreError>;

    /// Lets no instance of the unit expire for this long, on all companions.
    async fn hold_expiry(&self, time: Duration) -> Result<(), StoreError>;

    /// Returns the space of deleted data to the file system; all other work waits meanwhile. `None` if the server does
    /// so by itself.
    async fn compact(&self) -> Result<Option<Compacted>, StoreError>;
}

/// The result of [`Housekeeping::compact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the file before.
    pub before: u64,
    pub after: u64,
}

/// Whether this much time has passed since it was last due; if so, it counts as done now.
pub(super) fn is_due(last_ms: &AtomicU64, every_ms: u64, now_ms: u64) -> bool {
    let is_due = now_ms.saturating_sub(last_ms.load(Ordering::Relaxed)) >= every_ms;
    if is_due {
        last_ms.store(now_ms, Ordering::Relaxed);
    }
    is_due
}
