//! Changes of a bucket: what is requested, and the outcome.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId, Value, Version};

use super::Stamp;

/// The longest lost value that is kept with a conflict, in bytes.
pub(crate) const CONFLICT_VALUE_MAX: usize = 1_024;
/// The result of a local write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The new version of the record.
    pub version: Version,
    /// Whether there was no live record.
    pub created: bool,
}

/// The effect of a write on a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Puts this value in place of the present one.
    Put {
        /// Up to [`unitring_protocol::record::VALUE_BYTES_MAX`].
        value: &'a [u8],
        /// When the record expires, in ms since the Unix epoch.
        expires_ms: Option<u64>,
    },
    /// Deletes the record.
    Delete,
    /// Keeps the record and gives it a new version, so that peers take it again after a clock that
    /// was ahead.
    Again,
}

impl<'a> From<Option<&'a [u8]>> for Change<'a> {
    /// Puts a value that does not expire, or deletes with `None`.
    fn from(value: Option<&'a [u8]>) -> Self {
        let expires_ms = None;
        value.map_or(Self::Delete, |value| Self::Put { value, expires_ms })
    }
}

/// The precondition of a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// None: any record, or no record.
    #[default]
    Any,
    /// There is a record, of any version.
    Present,
    /// There is no record.
    Absent,
    /// The record has this version.
    Version(Version),
    /// The record has one of these versions.
    OneOf(Vec<Version>),
    /// Neither this data update of the record nor a later one of its source was applied. A write that is made, and
    /// a deletion that finds nothing, leave the stamp.
    After(Stamp),
}

impl Condition {
    /// Whether the condition holds for this version of the record; `None` if there is no record.
    pub fn holds(&self, there: Option<&Version>) -> bool {
        match self {
            // The stamps of the record decide, not its version.
            Self::Any | Self::After(_) => true,
            Self::Present => there.is_some(),
            Self::Absent => there.is_none(),
            Self::Version(version) => there == Some(version),
            Self::OneOf(versions) => there.is_some_and(|there| versions.contains(there)),
        }
    }
}

/// The outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The write was made.
    Done(Written),
    /// There was nothing to delete, or to write again.
    Nothing,
    /// The condition does not hold; this is the present version.
    Refused(Option<Version>),
    /// This data update was applied before, or a later one of its source was: see [`Condition::After`].
    Overtaken,
}

/// A write that is refused: the bucket's clock is this many ms ahead of now, so no other unit would
/// take the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockAhead(pub u64);

/// Changes of a bucket that other units sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Ops of one unit, in order of sequence.
    Ops {
        /// The unit that made them.
        origin: UnitId,
        /// The incarnation of their sequences.
        incarnation: u64,
        /// The ops, in order of sequence.
        ops: Vec<Op>,
        /// Sequences in between without an op: it is set aside, or a later op of the record
        /// replaces it.
        passed: BTreeSet<u64>,
    },
    /// Records of a repair, of any origin.
    Records {
        /// The records, any number.
        records: Vec<Record>,
        /// The positions of the sender, before it read the first record. A sender that had not
        /// reached this store's fence may send records that were collected here: then unknown
        /// records are refused.
        positions: BTreeMap<UnitId, Position>,
        /// The sender's clock then.
        clock: Clock,
        /// Whether these and all earlier records hold every op up to the positions: ours move up to
        /// them, this unit's own included.
        is_last: bool,
    },
}

/// The result of applying a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Records that changed; the others were known, or older than the present ones.
    pub changed: u64,
    /// Ops that arrived before an earlier one. They are applied, but the position does not move to
    /// them.
    pub gaps: u64,
    /// Concurrent changes, whether the new one or the present one won.
    pub conflicts: u64,
    /// Unknown records of a sender that may not have collected them yet.
    pub refused: u64,
    /// Changes of the future, which are not taken.
    pub ahead: u64,
}

/// Two concurrent changes of a record: the later one won.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// When it was seen here, in ms since the Unix epoch.
    pub at_ms: u64,
    pub record: RecordId,
    /// The version that lost, with `!` behind it if it deleted, or `~<ms>` if it was to expire.
    pub lost: String,
    /// The version that won.
    pub kept: String,
    /// The lost value, if there was one of at most [`CONFLICT_VALUE_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// A step of a batch of ops.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OpStep<'a> {
    Op(&'a Op),
    /// A sequence without an op.
    Passed(u64),
}

/// Merges ops and passed sequences in order of sequence; ops that arrived out of order stay so.
pub(crate) fn op_steps<'a>(ops: &'a [Op], passed: &BTreeSet<u64>) -> Vec<OpStep<'a>> {
    let mut steps = Vec::with_capacity(ops.len() + passed.len());
    let mut passed = passed.iter().copied().peekable();
    for op in ops {
        while let Some(sequence) = passed.next_if(|sequence| *sequence < op.sequence) {
            steps.push(OpStep::Passed(sequence));
        }
        steps.push(OpStep::Op(op));
    }
    steps.extend(passed.map(OpStep::Passed));
    steps
}
