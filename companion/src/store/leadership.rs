//! The lease of the unit's leader, its events, and hints for it.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::events::Entry;

/// The duration of the lease: a new leader replaces a dead one after it and one more
/// [`RENEW_EVERY`](crate::leadership::RENEW_EVERY) at the latest.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// The lease of the unit's leader, its events, and hints for it.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// Takes the lease for [`LEASE`] if no companion has it, or renews it. Returns the term, or
    /// `None` if another companion leads.
    async fn lead(&self, me: &str) -> Result<Option<u64>, StoreError>;

    /// Releases the lease if this companion has it.
    async fn resign(&self, me: &str) -> Result<(), StoreError>;

    /// Stores an event of a leader; `false` if a later one leads.
    async fn append(&self, term: u64, event: &Entry) -> Result<bool, StoreError>;

    /// Tells the leader that a bucket was written. The hint may get lost.
    async fn hint(&self, bucket: u8) -> Result<(), StoreError>;

    /// The hints after a position, and the position to read from next; an empty text starts now.
    async fn hints(&self, after: &str) -> Result<(BTreeSet<u8>, String), StoreError>;
}
