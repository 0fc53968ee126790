//! The content of a bucket, as other units compare and repair it.

use async_trait::async_trait;
use unitring_protocol::digest::BucketState;
use unitring_protocol::record::{Clock, Record, RecordId};

use super::{Applied, Batch, Conflict, StoreError};

/// Conflicts of a bucket that are kept; the oldest are dropped.
pub(crate) const CONFLICTS_MAX: u64 = 64;

/// The state of a bucket in its own store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The state that the peers are sent.
    pub state: BucketState,
    /// The bucket's clock.
    pub clock: Clock,
    /// When the oldest tombstone or expiring record is gone, in ms since the Unix epoch.
    pub gone_ms: Option<u64>,
}

/// Where the next page of a bucket starts. Only the store that made it can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Ids that were listed and are not read yet.
    pub listed: Vec<RecordId>,
    /// Where listing continues; `None` if all ids are listed.
    pub more: Option<String>,
}

impl Page {
    pub fn first() -> Self {
        Self {
            listed: Vec::new(),
            more: Some(String::new()),
        }
    }

    /// Whether nothing is left to read.
    pub fn is_done(&self) -> bool {
        self.listed.is_empty() && self.more.is_none()
    }
}

/// The result of [`Replica::recount`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recounted {
    /// Whether the digests were not those of the records.
    pub was_wrong: bool,
    /// Records whose value was gone.
    pub lost: u64,
    /// Why the bucket cannot be read, and the way out.
    pub unread: Option<String>,
}

/// The content of a bucket, as other units compare and repair it.
#[async_trait]
pub trait Replica: Send + Sync {
    /// Applies changes of other units, each only if its version is later than the present one:
    /// batch by batch, in order. Records, versions, digest, clock, position and log of changes of
    /// one batch change in one step. An unknown record that a position covers was collected, and
    /// stays so.
    async fn apply(&self, parts: &[(u8, Batch)], now_ms: u64) -> Result<Vec<Applied>, StoreError>;

    /// Every bucket that has or had records, in order, with the digests of this moment's epoch.
    async fn states(&self, now_ms: u64) -> Result<Vec<Held>, StoreError>;

    /// A page of a bucket's records, tombstones included, and where the next one starts.
    async fn page(&self, bucket: u8, page: Page) -> Result<(Vec<Record>, Page), StoreError>;

    /// The latest conflicts, the latest first.
    async fn conflicts(&self, limit: usize) -> Result<Vec<Conflict>, StoreError>;

    /// Recomputes a bucket's digests. Forgets each record whose value is gone, so that another unit's repair brings
    /// it again.
    async fn recount(&self, bucket: u8, now_ms: u64) -> Result<Recounted, StoreError>;

    /// The way back from a clock of the future: sets the clocks and incarnations of buckets that are too far ahead back to
    /// now, and forgets positions of such incarnations. Returns those buckets. The caller says that `now_ms` is right.
    async fn reset_clocks(&self, now_ms: u64) -> Result<Vec<u8>, StoreError>;
}
