//! The log of changes, for watchers.

use async_trait::async_trait;

use super::{Listed, StoreError};

/// The log of a bucket keeps at least this many changes; older ones are dropped.
pub(crate) const CHANGES_MAX: u64 = 512;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The changes with their numbers, in order: 1, 2, 3 …
    pub changes: Vec<(u64, Listed)>,
    /// Whether some of the requested changes are no longer in the log.
    pub missed: bool,
}

/// The log of changes, for watchers.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// The number of the last change of each bucket, in order; 0 if there was none.
    async fn heads(&self) -> Result<Vec<u64>, StoreError>;

    /// The changes of a bucket after this number, as far as the log still has them.
    async fn changes(&self, bucket: u8, after: u64) -> Result<Changes, StoreError>;
}
