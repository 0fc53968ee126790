//! The decision on a single change, the same for every store.
//!
//! The later version of a record wins, in every unit. Redis' scripts decide the same in Lua;
//! `store/contract/differential.rs` holds them to this file.

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Record, Version};

use super::bounds::{AHEAD_MS_MAX, ahead_of};
use super::bucket::{Bucket, tick};
use super::{Change, ClockAhead, Condition, Mark};

/// The settings of a unit's decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub unit: UnitId,
    /// Whether other units must learn of changes made here.
    pub has_peers: bool,
    /// How far ahead of now a clock may be, in ms: [`AHEAD_MS_MAX`].
    pub ahead_ms_max: u64,
}

impl Rules {
    pub(crate) fn of(unit: UnitId, has_peers: bool) -> Self {
        Self {
            unit,
            has_peers,
            ahead_ms_max: AHEAD_MS_MAX,
        }
    }

    /// How far a clock is ahead of now, if that is over the limit.
    pub(crate) fn ahead(&self, ms: u64, now_ms: u64) -> Option<u64> {
        ahead_of(ms, now_ms, self.ahead_ms_max)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteDecision {
    /// There is nothing to delete, or to write again.
    Keep,
    Put(Put),
    /// The condition does not hold; this is the present version.
    Refuse(Option<Version>),
    /// The bucket's clock is so far ahead that no other unit would take the change.
    Ahead(ClockAhead),
}

/// A write to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    /// Clock and positions of the bucket afterwards.
    pub bucket: Bucket,
    /// The mark of the record afterwards.
    pub mark: Mark,
    /// Whether the mark is stored: a tombstone is not if no other unit must learn of the deletion.
    pub is_kept: bool,
    /// The version that it replaces, a deleted one included.
    pub over: Option<Version>,
    /// Whether there was no live record.
    pub created: bool,
}

/// Decides on a write of this unit. `outbox_is_empty` matters only if [`Bucket::begins_anew`].
pub(crate) fn decide_write(
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

/// The decision on a change of another unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The present record stays: it is the same or later, or the change was here and was collected.
    Keep,
    /// The change replaces the present record.
    Put,
    /// The change is refused, although it is later than everything known here.
    Refuse(Refusal),
    /// The two are concurrent: the later one wins.
    Conflict(Stays),
}

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its sender may not know that the record was deleted.
    Fenced,
    /// Its clock is too far ahead.
    Ahead,
}

/// The winner of two concurrent changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stays {
    There,
    Change,
}

impl Decision {
    /// Whether the change replaces the present record.
    pub(crate) fn is_put(self) -> bool {
        matches!(self, Self::Put | Self::Conflict(Stays::Change))
    }
}

/// Decides on an op of another unit. An op covered by a position was here before: if its record is
/// unknown now, it has been collected since.
pub(crate) fn decide_op(
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
        // A unit knows its own earlier changes.
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

/// Decides on a record of a repair, which does not tell the version that it replaced.
pub(crate) fn decide_record(
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
    // A live record whose value was lost on the way, which differs from an empty value.
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
