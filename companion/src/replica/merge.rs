//! What becomes of one change: decided here, whatever holds the record.
//!
//! Of two changes of a record the later version stays, in every unit. Redis' scripts decide the same in Lua;
//! `store/contract/differential.rs` holds them to this file.

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Record, Version};

use super::bounds::{AHEAD_MS_MAX, ahead_of};
use super::bucket::{Bucket, tick};
use super::{Change, ClockAhead, Condition, Mark};

/// By what a unit decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// This unit.
    pub unit: UnitId,
    /// Whether others have to learn of what is written here.
    pub has_peers: bool,
    /// How far ahead of now a clock may be: [`AHEAD_MS_MAX`].
    pub ahead_ms_max: u64,
}

impl Rules {
    /// Those of a unit.
    pub fn of(unit: UnitId, has_peers: bool) -> Self {
        Self {
            unit,
            has_peers,
            ahead_ms_max: AHEAD_MS_MAX,
        }
    }

    /// By how much a clock is of the future.
    pub fn ahead(&self, ms: u64, now_ms: u64) -> Option<u64> {
        ahead_of(ms, now_ms, self.ahead_ms_max)
    }
}

/// What becomes of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteDecision {
    /// There is nothing to delete.
    Keep,
    /// It is made.
    Put(Put),
    /// The condition does not hold; this is the version that is there.
    Refuse(Option<Version>),
    /// What is written by this bucket's clock no other unit would take.
    Ahead(ClockAhead),
}

/// A write as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Clock and numbers of the bucket afterwards.
    pub bucket: Bucket,
    /// What the record is then.
    pub mark: Mark,
    /// Whether anything of it is kept: where nobody else has to learn of a deletion, nothing is.
    pub is_kept: bool,
    /// The version that it replaces, a deleted one included.
    pub over: Option<Version>,
    /// Whether there was no live record.
    pub created: bool,
}

/// Decides a write of this unit. `outbox_is_empty` counts only if [`Bucket::begins_anew`].
pub fn decide_write(
    rules: &Rules,
    (bucket, outbox_is_empty): (Bucket, bool),
    there: Option<&Mark>,
    condition: &Condition,
    change: Change<'_>,
    now_ms: u64,
) -> WriteDecision {
    let live = there.filter(|mark| mark.is_live(now_ms));
    let live = live.map(|mark| &mark.version);
    if !condition.holds(live) {
        return WriteDecision::Refuse(live.cloned());
    }
    let (is_deleted, expires_ms) = match change {
        Change::Put { expires_ms, .. } => (false, expires_ms),
        Change::Delete if live.is_none() => return WriteDecision::Keep,
        Change::Delete => (true, None),
        Change::Again => match there {
            Some(there) => (there.is_deleted, there.expires_ms),
            None => return WriteDecision::Keep,
        },
    };
    if let Some(ms) = rules
        .ahead(bucket.clock.ms, now_ms)
        .filter(|_| rules.has_peers)
    {
        return WriteDecision::Ahead(ClockAhead(ms));
    }
    let clock = tick(bucket.clock, now_ms);
    WriteDecision::Put(Put {
        bucket: Bucket {
            clock,
            own: bucket.next_position(outbox_is_empty, now_ms),
            ..bucket
        },
        mark: Mark {
            version: Version {
                clock,
                unit: rules.unit.clone(),
            },
            is_deleted,
            expires_ms,
        },
        is_kept: rules.has_peers || !is_deleted,
        over: there.map(|mark| mark.version.clone()),
        created: live.is_none(),
    })
}

/// What becomes of a change of another unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// What is there stays: it is the same or later, or the change was here and is forgotten.
    Keep,
    /// It takes the place of what is there.
    Put,
    /// It is not taken, although it is later than all that is known here.
    Refuse(Refusal),
    /// It and what is there did not know of each other: the later one stays.
    Conflict(Stays),
}

/// Why a change is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Whoever sent it may not know that the record was deleted.
    Fenced,
    /// It is of the future.
    Ahead,
}

/// Which of two changes that did not know of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// What was there.
    There,
    /// What came.
    Change,
}

impl Decision {
    /// Whether the change takes the place of what is there.
    pub fn is_put(self) -> bool {
        matches!(self, Self::Put | Self::Conflict(Stays::Change))
    }
}

/// Decides an op of another unit. One that is covered by a position was here before: if it is unknown now, it
/// was forgotten since.
pub fn decide_op(
    rules: &Rules,
    there: Option<&Mark>,
    op: &Op,
    is_covered: bool,
    now_ms: u64,
) -> Decision {
    if rules.ahead(op.record.version.clock.ms, now_ms).is_some() {
        return Decision::Refuse(Refusal::Ahead);
    }
    if op.record.value.is_none() && Mark::of(&op.record).is_live(now_ms) {
        return Decision::Keep;
    }
    let Some(there) = there else {
        return if is_covered {
            Decision::Keep
        } else {
            Decision::Put
        };
    };
    let (mine, theirs) = (&there.version, &op.record.version);
    let is_later = mine < theirs;
    let is_ours = mine.unit == rules.unit;
    if is_covered || mine.unit == theirs.unit {
        // One unit knows what it did itself.
    } else if is_later {
        let unknown = match &op.over {
            Some(over) => over < mine,
            None => !there.is_deleted,
        };
        if unknown {
            return Decision::Conflict(Stays::Change);
        }
    } else if is_ours {
        return Decision::Conflict(Stays::There);
    }
    if is_later {
        Decision::Put
    } else {
        Decision::Keep
    }
}

/// Decides a record of a repair, which says nothing of what it replaced.
pub fn decide_record(
    rules: &Rules,
    there: Option<&Mark>,
    record: &Record,
    is_fenced: bool,
    now_ms: u64,
) -> Decision {
    if rules.ahead(record.version.clock.ms, now_ms).is_some() {
        return Decision::Refuse(Refusal::Ahead);
    }
    let mark = Mark::of(record);
    // A live record whose value was lost on the way: not the same as an empty one.
    if record.value.is_none() && mark.is_live(now_ms) {
        return Decision::Keep;
    }
    match there {
        Some(mark) if mark.version >= record.version => Decision::Keep,
        None if is_fenced => Decision::Refuse(Refusal::Fenced),
        Some(_) | None => Decision::Put,
    }
}

#[cfg(test)]
mod tests;
