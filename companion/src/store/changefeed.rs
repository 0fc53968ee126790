//! The log of changes, for those who watch.

use async_trait::async_trait;

use super::{Listed, StoreError};

/// Changes of a bucket that are known at least; older ones are dropped.
pub const CHANGES_MAX: u64 = 512;

/// What changed in a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// With their numbers, in order: 1, 2, 3 …
    pub changes: Vec<(u64, Listed)>,
    /// Whether some that were asked for are no longer known.
    pub missed: bool,
}

/// The log of changes, for those who watch.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// The number of the last change of each bucket, in order; 0 where there was none.
    async fn heads(&self) -> Result<Vec<u64>, StoreError>;

    /// What changed in a bucket after this number: at most [`CHANGES_MAX`] are known.
    async fn changes(&self, bucket: u8, after: u64) -> Result<Changes, StoreError>;
}
