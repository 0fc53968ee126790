//! Whether the store is fit for use.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::StoreError;

/// What companions of one unit must have alike, as text: kept in the store, so that one that differs is found
/// out before it does harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement(pub String);

/// Whether the store is fit for use.
#[async_trait]
pub trait Health: Send + Sync {
    /// Whether the store takes writes, and has a layout that this program knows.
    async fn check(&self) -> Result<(), StoreError>;

    /// How far the clock by which the store lets values expire is ahead of ours, in ms, give or take the way there
    /// and back. Writes a little, as [`Self::check`] does.
    async fn clock_ahead_ms(&self) -> Result<i64, StoreError>;

    /// Makes this companion's [`Agreement`] that of the unit.
    async fn agree(&self) -> Result<(), StoreError>;

    /// What was left out since the process started, since no unitring wrote it, and why.
    fn spoiled(&self) -> BTreeMap<String, String>;
}
