//! The time up to which a store frees what expires. Pure.
//!
//! What is freed does not come back, and a wall clock may be wrong: a machine that starts with a clock a year ahead
//! would free all that expires within the year. So a store frees by a time of its own, which follows the wall clock
//! but makes no jump: it is doubted until it has stood for [`DOUBTED_MS`]. Reads do not ask it: for them a record ends by
//! the wall clock, and is there again once that is right.
//!
//! Redis expires values by its own clock, which is compared instead: [`Settled::by`].

use crate::moment::Moment;
use crate::replica::bounds::AHEAD_MS_MAX;

/// How far the wall clock may be ahead of the time that has passed, in ms: what other units grant a clock, too.
pub(crate) const JUMP_MS_MAX: u64 = AHEAD_MS_MAX;
/// How long a wall clock is doubted that is farther ahead: an operator has so long to set it. After that it counts as
/// right, since a machine may have been off.
pub(crate) const DOUBTED_MS: u64 = 3_600_000;

/// How far what expires may be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What expires up to this time may be freed, in ms since the Unix epoch.
    pub until_ms: u64,
    /// How far the wall clock is ahead of it, in ms, if it is doubted.
    pub doubted_ms: Option<u64>,
}

impl Settled {
    /// By another clock that was read at this moment: the earlier of the two.
    pub(super) fn by(other_ms: u64, wall_ms: u64) -> Self {
        let ahead_ms = wall_ms.saturating_sub(other_ms);
        Self {
            until_ms: wall_ms.min(other_ms),
            doubted_ms: (ahead_ms > JUMP_MS_MAX).then_some(ahead_ms),
        }
    }
}

/// The time of a store that has no other clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct SettledClock {
    /// The time at the last look, and when that was by the monotonic clock.
    time_ms: u64,
    looked_ms: u64,
    /// Since when the wall clock is doubted, by the monotonic clock.
    doubted_since_ms: Option<u64>,
}

impl SettledClock {
    /// Goes on where the store was when it was last open; a new store believes the wall clock.
    pub(super) fn begin(last_ms: Option<u64>, moment: Moment) -> Self {
        Self {
            time_ms: last_ms.unwrap_or(moment.wall_ms),
            looked_ms: moment.now_ms,
            doubted_since_ms: None,
        }
    }

    /// An operator says that this is the time.
    pub(super) fn believe(&mut self, wall_ms: u64) {
        (self.time_ms, self.doubted_since_ms) = (wall_ms, None);
    }

    pub(super) fn look(&mut self, moment: Moment) -> Settled {
        let passed_ms = moment.now_ms.saturating_sub(self.looked_ms);
        let expected_ms = self.time_ms.saturating_add(passed_ms);
        self.looked_ms = moment.now_ms;
        let by = Settled::by(expected_ms, moment.wall_ms);
        let since_ms = by.doubted_ms.map(|_| {
            let since_ms = self.doubted_since_ms.unwrap_or(moment.now_ms);
            (since_ms, moment.now_ms.saturating_sub(since_ms))
        });
        match since_ms {
            Some((since_ms, stood_ms)) if stood_ms < DOUBTED_MS => {
                self.doubted_since_ms = Some(since_ms);
                self.time_ms = expected_ms;
                by
            }
            // A clock that was set back is followed, too: then less is freed.
            _ => {
                self.doubted_since_ms = None;
                self.time_ms = moment.wall_ms;
                Settled::by(moment.wall_ms, moment.wall_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    const WALL_MS: u64 = 1_800_000_000_000;

    fn at(now_ms: u64, wall_ms: u64) -> Moment {
        Moment { now_ms, wall_ms }
    }

    #[test]
    fn a_jump_forward_is_doubted_until_it_has_stood_for_an_hour() {
        let mut clock = SettledClock::begin(None, at(0, WALL_MS));
        assert_eq!(clock.look(at(0, WALL_MS)).until_ms, WALL_MS);
        let later = clock.look(at(5_000, WALL_MS + 5_000));
        assert_eq!((later.until_ms, later.doubted_ms), (WALL_MS + 5_000, None));
        let jumped = clock.look(at(10_000, WALL_MS + YEAR_MS));
        let ahead_ms = YEAR_MS - 10_000;
        assert_eq!(
            (jumped.until_ms, jumped.doubted_ms),
            (WALL_MS + 10_000, Some(ahead_ms))
        );
        let stood = at(10_000 + DOUBTED_MS - 1, WALL_MS + YEAR_MS + DOUBTED_MS - 1);
        assert!(clock.look(stood).doubted_ms.is_some());
        let believed = at(10_000 + DOUBTED_MS, WALL_MS + YEAR_MS + DOUBTED_MS);
        let believed = (clock.look(believed), WALL_MS + YEAR_MS + DOUBTED_MS);
        assert_eq!(
            (believed.0.until_ms, believed.0.doubted_ms),
            (believed.1, None)
        );
    }

    #[test]
    fn a_clock_that_is_set_right_is_followed_at_once_and_a_later_jump_is_doubted_anew() {
        let mut clock = SettledClock::begin(Some(WALL_MS), at(0, WALL_MS + YEAR_MS));
        assert!(clock.look(at(0, WALL_MS + YEAR_MS)).doubted_ms.is_some());
        let right = clock.look(at(3_000, WALL_MS + 2_000));
        assert_eq!((right.until_ms, right.doubted_ms), (WALL_MS + 2_000, None));
        let again = clock.look(at(DOUBTED_MS, WALL_MS + YEAR_MS));
        assert!(again.doubted_ms.is_some(), "its hour begins now");
        clock.believe(WALL_MS + YEAR_MS);
        let believed = clock.look(at(DOUBTED_MS, WALL_MS + YEAR_MS));
        assert_eq!(believed.until_ms, WALL_MS + YEAR_MS);
        // Back by an hour: nothing is freed that has not expired by it.
        let back = clock.look(at(DOUBTED_MS + 1, WALL_MS - 3_600_000));
        assert_eq!(back.until_ms, WALL_MS - 3_600_000);
    }

    #[test]
    fn a_minute_is_no_jump() {
        let mut clock = SettledClock::begin(Some(WALL_MS), at(0, WALL_MS));
        assert_eq!(
            clock.look(at(0, WALL_MS + JUMP_MS_MAX)).until_ms,
            WALL_MS + JUMP_MS_MAX
        );
        let over = clock.look(at(0, WALL_MS + 2 * JUMP_MS_MAX + 1));
        assert_eq!(over.doubted_ms, Some(JUMP_MS_MAX + 1));
    }
}
