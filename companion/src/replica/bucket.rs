//! The state of a bucket that decisions need, and how its clock and sequence advance.

use std::collections::BTreeMap;

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Position};

/// The state of a bucket that decisions need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// The clock of the last change, of any unit.
    pub clock: Clock,
    /// The position of the last op made here.
    pub own: Position,
    /// The last position that other units have of this unit. One after `own` comes from a store
    /// that is lost.
    pub known: Position,
}

impl Bucket {
    /// Whether the next op begins a later incarnation. The numbers that others know from a lost
    /// store belong to other ops, and are not used again.
    pub(crate) fn begins_anew(&self) -> bool {
        self.own.incarnation == 0 || self.own < self.known
    }

    /// The position of the next op. While ops wait in the outbox the numbers go on, so that these
    /// ops keep their order.
    pub(crate) fn next_position(&self, outbox_is_empty: bool, now_ms: u64) -> Position {
        let mut next = self.own;
        if self.begins_anew() {
            next.incarnation = now_ms.max(self.known.incarnation.saturating_add(1));
            if outbox_is_empty {
                next.sequence = 0;
            }
        }
        next.sequence = next.sequence.saturating_add(1);
        next
    }

    /// The bucket as it goes on once a clock of the future is put right; `None` if neither its clock nor its incarnation
    /// is too far ahead. Other units set aside every op of an incarnation of the future, so one of now begins. While ops
    /// wait in the outbox the numbers go on.
    pub(crate) fn set_back(
        self,
        is_ahead: impl Fn(u64) -> bool,
        outbox_is_empty: bool,
        now_ms: u64,
    ) -> Option<Self> {
        let mut back = self;
        if is_ahead(self.clock.ms) {
            back.clock = Clock {
                ms: now_ms,
                counter: 0,
            };
        }
        if is_ahead(self.own.incarnation) {
            back.own.incarnation = now_ms;
            if outbox_is_empty {
                back.own.sequence = 0;
            }
        }
        (back != self).then_some(back)
    }
}

/// The clock of the next change here: now, or a tick after the last change if now is not later.
pub(crate) fn tick(clock: Clock, now_ms: u64) -> Clock {
    let begin = |ms| Clock { ms, counter: 0 };
    if now_ms > clock.ms {
        return begin(now_ms);
    }
    match clock.counter.checked_add(1) {
        Some(counter) => Clock { counter, ..clock },
        None => begin(clock.ms.saturating_add(1)),
    }
}

/// The effect of an op on the position of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The op was applied before.
    Covered,
    /// It is the next one, or the first of a later incarnation: the position moves to it.
    Next,
    /// Earlier ops are missing here.
    Gap,
}

impl Progress {
    /// The progress of the op at `here`, after those up to `position`.
    pub(crate) fn of(position: Position, here: Position) -> Self {
        if here <= position {
            return Self::Covered;
        }
        let is_next = here.incarnation == position.incarnation
            && Some(here.sequence) == position.sequence.checked_add(1);
        if is_next || (here.incarnation > position.incarnation && here.sequence == 1) {
            Self::Next
        } else {
            Self::Gap
        }
    }
}

/// Whether a sender with these positions may still hold what was collected here: every member had
/// reached `fence` then.
pub(crate) fn is_fenced(
    fence: &BTreeMap<UnitId, Position>,
    positions: &BTreeMap<UnitId, Position>,
) -> bool {
    let has = |unit: &UnitId| positions.get(unit).copied().unwrap_or_default();
    fence.iter().any(|(unit, needed)| has(unit) < *needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(incarnation: u64, sequence: u64) -> Position {
        Position {
            incarnation,
            sequence,
        }
    }

    #[test]
    fn a_clock_never_goes_back_and_its_counter_runs_over_into_the_next_millisecond() {
        let clock = |ms, counter| Clock { ms, counter };
        assert_eq!(tick(clock(5, 3), 6), clock(6, 0));
        assert_eq!(tick(clock(5, 3), 5), clock(5, 4));
        assert_eq!(tick(clock(5, 3), 1), clock(5, 4));
        assert_eq!(tick(clock(5, u32::MAX), 1), clock(6, 0));
    }

    #[test]
    fn a_store_that_lost_ops_begins_a_later_incarnation() {
        let mut bucket = Bucket {
            own: at(10, 7),
            ..Bucket::default()
        };
        assert_eq!(bucket.next_position(true, 99), at(10, 8));
        bucket.known = at(10, 7);
        assert_eq!(bucket.next_position(true, 99), at(10, 8));
        bucket.known = at(10, 9);
        assert_eq!(bucket.next_position(true, 99), at(99, 1));
        // Waiting ops keep their order.
        assert_eq!(bucket.next_position(false, 5), at(11, 8));
        assert_eq!(Bucket::default().next_position(true, 42), at(42, 1));
    }

    #[test]
    fn a_bucket_of_the_future_begins_an_incarnation_of_now() {
        let is_ahead = |ms| ms > 160;
        let future = Bucket {
            clock: Clock {
                ms: 900,
                counter: 3,
            },
            own: at(900, 7),
            known: Position::default(),
        };
        let back = future.set_back(is_ahead, true, 100).unwrap();
        assert_eq!((back.clock.ms, back.own), (100, at(100, 0)));
        assert_eq!(back.next_position(true, 101), at(100, 1));
        let waits = future.set_back(is_ahead, false, 100).unwrap();
        assert_eq!(waits.own, at(100, 7), "waiting ops keep their order");
        assert_eq!(back.set_back(is_ahead, true, 100), None);
    }

    #[test]
    fn a_position_moves_without_a_gap_alone() {
        use Progress::{Covered, Gap, Next};
        for (here, expected) in [
            (at(10, 3), Covered),
            (at(9, 80), Covered),
            (at(10, 4), Next),
            (at(10, 5), Gap),
            (at(11, 1), Next),
            (at(11, 2), Gap),
        ] {
            assert_eq!(Progress::of(at(10, 3), here), expected, "{here}");
        }
    }
}
