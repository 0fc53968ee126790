//! Unit → unit: one message through the broker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::BucketState;
use crate::ids::UnitId;
use crate::record::{Op, Record};

/// A message with its sender and the version of its form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`crate::PROTOCOL_VERSION`] of the sender; a reader sets a newer one aside.
    pub version: u32,
    /// The unit that sent it.
    pub from: UnitId,
    /// What it says.
    pub body: Body,
}

/// What units say to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// Changes made at the sender, in order of sequence.
    Ops {
        /// The bucket they belong to.
        bucket: u8,
        /// One or more.
        ops: Vec<Op>,
    },
    /// What the sender's buckets hold.
    Digests {
        /// Every bucket that holds or held something.
        buckets: Vec<BucketState>,
    },
    /// "Mine differs from yours: send me these."
    RepairRequest {
        /// The buckets that differ.
        buckets: Vec<u8>,
    },
    /// Records of a bucket, tombstones included; each is applied if it is later than what is there.
    Repair {
        /// The bucket they belong to.
        bucket: u8,
        /// A bounded number of them; a bucket may take several messages.
        records: Vec<Record>,
        /// In the last message of a bucket: the sender's positions before it read the first
        /// record. Whoever applied all messages has every op up to there. Empty in the others.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        positions: BTreeMap<UnitId, u64>,
    },
}
