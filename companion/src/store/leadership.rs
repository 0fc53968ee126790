//! What companions of a unit share: who of them leads, and what it should know.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::events::Entry;

/// How long the lead is given for: a leader that dies is followed after this and one more
/// [`RENEW_EVERY`](crate::leadership::RENEW_EVERY) at the latest.
pub const LEASE: Duration = Duration::from_secs(3);

/// What companions of a unit share: who of them leads, and what it should know.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// Takes the lead for [`LEASE`] if nobody has it, or renews it. Answers its term, or
    /// `None` if another leads.
    async fn lead(&self, me: &str) -> Result<Option<u64>, StoreError>;

    /// Gives the lead back, if it is this one's.
    async fn resign(&self, me: &str) -> Result<(), StoreError>;

    /// Stores what a leader says; `false` if a later one leads.
    async fn append(&self, term: u64, event: &Entry) -> Result<bool, StoreError>;

    /// Tells the leader that a bucket was written. It may get lost.
    async fn hint(&self, bucket: u8) -> Result<(), StoreError>;

    /// What was told since, and since when to ask next; the empty text for now.
    async fn hints(&self, after: &str) -> Result<(BTreeSet<u8>, String), StoreError>;
}
