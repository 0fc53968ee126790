//! Ops on their way to the other units.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position};

use super::StoreError;

/// The first ops of an outbox after some position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// That of their sequence.
    pub incarnation: u64,
    /// The ops.
    pub ops: Vec<Op>,
    /// Sequences between these that need nothing.
    pub passed: BTreeSet<u64>,
    /// That of the last op that was made here, in the outbox or not.
    pub last: u64,
    /// Whether there are more.
    pub more: bool,
}

/// What waits in an outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many ops.
    pub ops: u64,
    /// What they take, about.
    pub bytes: u64,
}

/// How far the broker has the ops of each bucket, by the unit they are for.
pub type Cursors = BTreeMap<UnitId, BTreeMap<u8, Position>>;

/// Ops on their way to the other units.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The first ops of these outboxes after these positions, in this order, each within [`BATCH_MAX`](super::BATCH_MAX) and
    /// its part of [`BATCH_BYTES_MAX`](super::BATCH_BYTES_MAX). A position of another incarnation is before all.
    async fn outboxes(&self, asked: &[(u8, Position)]) -> Result<Vec<Waiting>, StoreError>;

    /// How far the broker has what is for each unit, as it was stored last.
    async fn cursors(&self) -> Result<Cursors, StoreError>;

    /// Stores that the broker has what is for this unit up to here, and removes what it has for all
    /// of these members. What is of another incarnation counts for nothing. Answers how many ops.
    async fn confirm(
        &self,
        unit: &UnitId,
        cursors: &[(u8, Position)],
        members: &[UnitId],
    ) -> Result<u64, StoreError>;

    /// Removes the first ops of these outboxes but for so many, whether or not anybody has them. Answers
    /// how many.
    async fn shorten(&self, keep: &[(u8, u64)]) -> Result<u64, StoreError>;

    /// What waits, per bucket that has something.
    async fn waiting(&self) -> Result<BTreeMap<u8, Backlog>, StoreError>;
}
