//! Whether the store is ready for use.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::StoreError;

/// Settings that companions of one unit must share, as text. The store keeps them, so that a
/// companion that differs is refused before it does harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement(pub String);

/// Whether the store is ready for use.
#[async_trait]
pub trait Health: Send + Sync {
    /// Checks that the store takes writes, and has a layout that this program knows.
    async fn check(&self) -> Result<(), StoreError>;

    /// How far the clock by which the store expires values is ahead of ours, in ms, to within the
    /// round trip. Writes a little, as [`Self::check`] does.
    async fn clock_ahead_ms(&self) -> Result<i64, StoreError>;

    /// The identity of what the store holds: another one after it was lost. Made when it is first asked for.
    async fn identity(&self) -> Result<u64, StoreError>;

    /// Makes this companion's [`Agreement`] that of the unit.
    async fn agree(&self) -> Result<(), StoreError>;

    /// The rows that were left out since the process started because they are corrupt, with the
    /// reason.
    fn spoiled(&self) -> BTreeMap<String, String>;
}

/// An identity that no other store has, as good as surely.
pub(super) fn any_identity() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(crate::now_ms())
}
