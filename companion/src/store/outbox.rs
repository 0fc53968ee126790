//! Ops on their way to the other units.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position};

use super::StoreError;

/// The first ops of an outbox after some position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// The incarnation of their sequences.
    pub incarnation: u64,
    pub ops: Vec<Op>,
    /// Sequences in between without an op.
    pub passed: BTreeSet<u64>,
    /// The sequence of the last op that was made here, in the outbox or not.
    pub last: u64,
    /// Whether more ops wait.
    pub more: bool,
}

/// The size of an outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many ops wait.
    pub ops: u64,
    /// Their estimated bytes.
    pub bytes: u64,
}

/// By unit and bucket: the last op that the broker confirmed for it.
pub(crate) type Cursors = BTreeMap<UnitId, BTreeMap<u8, Position>>;

/// Ops on their way to the other units.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The first ops of these outboxes after these positions, in this order, each within
    /// [`BATCH_MAX`](super::BATCH_MAX) and its part of [`BATCH_BYTES_MAX`](super::BATCH_BYTES_MAX).
    /// A position of another incarnation reads from the start.
    async fn outboxes(&self, asked: &[(u8, Position)]) -> Result<Vec<Waiting>, StoreError>;

    /// The cursors of all units, as they were last stored.
    async fn cursors(&self) -> Result<Cursors, StoreError>;

    /// Stores the cursors of a unit, and removes the ops that the broker has for all of these
    /// members. A cursor of another incarnation is ignored. Returns how many ops were removed.
    async fn confirm(
        &self,
        unit: &UnitId,
        cursors: &[(u8, Position)],
        members: &[UnitId],
    ) -> Result<u64, StoreError>;

    /// Removes the first ops of these outboxes, even unconfirmed ones, and keeps this many of the last.
    /// Returns how many it removed.
    async fn shorten(&self, keep: &[(u8, u64)]) -> Result<u64, StoreError>;

    /// The size of each outbox that has ops.
    async fn waiting(&self) -> Result<BTreeMap<u8, Backlog>, StoreError>;
}
