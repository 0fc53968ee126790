//! Whether the store is ready for use.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;

use super::StoreError;

/// Settings that companions of one unit must share, as text. The store keeps them, so that a
/// companion that differs is refused before it does harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement(pub String);

/// Where in the text of an [`Agreement`] begins what earlier versions did not have.
pub(crate) const SINCE_AGREED: &str = ", virtual hosts ";

impl Agreement {
    /// Whether a companion with these settings may join a unit that agreed on this text: it is the same, or an
    /// earlier version wrote it, as far as that goes. Redis' script decides alike.
    pub fn joins(&self, agreed: &str) -> bool {
        let rest = self.0.strip_prefix(agreed);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(SINCE_AGREED))
    }
}

/// The durability of the store, as far as it is known: a server may refuse to answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Keeping {
    /// `redis` or `embedded`, which keeps each write on disk.
    pub kind: &'static str,
    /// Redis' eviction policy for full memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxmemory_policy: Option<String>,
    /// Its limit in bytes; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxmemory: Option<u64>,
    /// Whether it keeps a log of every write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appendonly: Option<bool>,
    /// Whether it makes snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<bool>,
}

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

    /// The durability of the store.
    async fn keeping(&self) -> Result<Keeping, StoreError>;

    /// Makes this companion's [`Agreement`] that of the unit.
    async fn agree(&self) -> Result<(), StoreError>;

    /// The rows that were left out since the process started, or since they were forgotten, because they are corrupt, with
    /// the reason.
    fn spoiled(&self) -> BTreeMap<String, String>;

    /// Forgets these rows. One that is met again is named again.
    fn forget_spoiled(&self);
}

/// An identity that no other store has, as good as surely.
pub(super) fn any_identity() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(crate::clock::now_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_join_those_that_are_equal_or_older() {
        let ours = Agreement("peers a,b, queue_bytes_max 1, virtual hosts a=/ b=/x".to_owned());
        assert!(ours.joins(&ours.0));
        assert!(ours.joins("peers a,b, queue_bytes_max 1"));
        for other in [
            "no peers",
            "",
            "peers a",
            "peers a,b, queue_bytes_max 12",
            "peers a,b, queue_bytes_max 1, virtual hosts a=/",
            "peers a,b, queue_bytes_max 1, virtual hosts a=/ b=/y",
        ] {
            assert!(!ours.joins(other), "{other}");
        }
    }
}
