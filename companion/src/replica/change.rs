//! Changes of a bucket, on their way in: what is asked for, and what became of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId, Value, Version};

/// The longest lost value that is kept with a conflict, in bytes.
pub const CONFLICT_VALUE_MAX: usize = 1_024;
/// What a local write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The version it got.
    pub version: Version,
    /// Whether there was no such record, or a deleted one.
    pub created: bool,
}

/// What a write does to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Puts this value in place of what is there.
    Put {
        /// Up to [`unitring_protocol::record::VALUE_BYTES_MAX`].
        value: &'a [u8],
        /// When it expires, in ms since the Unix epoch.
        expires_ms: Option<u64>,
    },
    /// Deletes it.
    Delete,
    /// Leaves it as it is, with a new version: the way back from one of the future.
    Again,
}

impl<'a> From<Option<&'a [u8]>> for Change<'a> {
    /// A value that stays, or `None` to delete.
    fn from(value: Option<&'a [u8]>) -> Self {
        let expires_ms = None;
        value.map_or(Self::Delete, |value| Self::Put { value, expires_ms })
    }
}

/// What must be there for a write to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Anything or nothing.
    #[default]
    Any,
    /// A record, of whatever version.
    Present,
    /// No record.
    Absent,
    /// The record in this version.
    Version(Version),
    /// The record in one of these.
    OneOf(Vec<Version>),
}

impl Condition {
    /// Whether it holds where this is the version of the record, if there is one.
    pub fn holds(&self, there: Option<&Version>) -> bool {
        match self {
            Self::Any => true,
            Self::Present => there.is_some(),
            Self::Absent => there.is_none(),
            Self::Version(version) => there == Some(version),
            Self::OneOf(versions) => there.is_some_and(|there| versions.contains(there)),
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Done(Written),
    /// There was nothing to delete.
    Nothing,
    /// The condition does not hold; this is the version that is there.
    Refused(Option<Version>),
}

/// A write that is not made: the bucket's clock is so far ahead of now, in ms, that no other unit would take
/// what is written by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockAhead(pub u64);

/// Changes from other units, of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Ops of one unit, in order of sequence.
    Ops {
        /// The unit that made them.
        origin: UnitId,
        /// That of its sequence.
        incarnation: u64,
        /// In order of sequence.
        ops: Vec<Op>,
        /// Sequences of the same span that need nothing: what was theirs is set aside, or comes later.
        passed: BTreeSet<u64>,
    },
    /// Records, of whatever origin.
    Records {
        /// Any number.
        records: Vec<Record>,
        /// The positions of whoever sent them, before it read the first. One who had not yet what
        /// this store needed to forget may send what is forgotten: then what is unknown here is
        /// refused.
        positions: BTreeMap<UnitId, Position>,
        /// Its clock then.
        clock: Clock,
        /// Whether these and all before them hold every op up to the positions: ours move up to
        /// them, this unit's own included.
        is_last: bool,
    },
}

/// What applying a batch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Records that changed; the others were known, or older than what was there.
    pub changed: u64,
    /// Ops that came before one they follow. They are applied, but not claimed by the position.
    pub gaps: u64,
    /// Changes that lost against one that did not know of them, or won so.
    pub conflicts: u64,
    /// Records that whoever sent them may have kept for longer than it should.
    pub refused: u64,
    /// Changes of the future, which are not taken.
    pub ahead: u64,
}

/// Two changes of a record that did not know of each other: the later one stayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// When it was seen here, in ms since the Unix epoch.
    pub at_ms: u64,
    /// Of which record.
    pub record: RecordId,
    /// The version that is lost, with `!` behind it if it deleted, or `~<ms>` if it was to expire.
    pub lost: String,
    /// The version that stayed.
    pub kept: String,
    /// The lost value, if there was one of at most [`CONFLICT_VALUE_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// A step of a batch of ops.
#[derive(Debug, Clone, Copy)]
pub enum OpStep<'a> {
    /// An op to apply.
    Op(&'a Op),
    /// A sequence that needs nothing.
    Passed(u64),
}

/// Ops and what needs nothing, in order of sequence; ops that came out of order stay so.
pub fn op_steps<'a>(ops: &'a [Op], passed: &BTreeSet<u64>) -> Vec<OpStep<'a>> {
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
