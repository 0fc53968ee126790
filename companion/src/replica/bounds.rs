//! The bounds of every record. They are checked before the first step of a change: after it nothing
//! may fail.
//!
//! A record that breaks a bound is set aside alone, with its name and the reason. The rest of its
//! batch continues, and its op's position counts as reached, so that its sender does not repeat it
//! for ever.

use std::fmt;

use unitring_protocol::record::{Record, VALUE_BYTES_MAX};

use super::Change;

/// Clocks, dates, sequences and incarnations stay below it, so that Redis' Lua, whose numbers are
/// doubles, rounds none of them.
pub(crate) const EXACT_MAX: u64 = 1 << 53;

/// How far ahead of this unit's clock a change may be, in ms. A change farther ahead would win over
/// every write until then, and move the bucket's clock with it.
pub(crate) const AHEAD_MS_MAX: u64 = 60_000;

/// Why a record is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has a number of 2^53 or more.
    Inexact,
    /// Its clock is this many ms ahead of the one here.
    Ahead(u64),
    /// Its value has this many bytes, more than the limit.
    TooLarge(usize),
    /// It does not belong to the bucket that it was sent for.
    OtherBucket,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inexact => f.write_str("a number from 2^53 on"),
            Self::Ahead(ms) => write!(
                f,
                "its clock is {ms} ms ahead of the one here, more than {AHEAD_MS_MAX}"
            ),
            Self::TooLarge(bytes) => write!(f, "{bytes} bytes, more than {VALUE_BYTES_MAX}"),
            Self::OtherBucket => f.write_str("it belongs to another bucket"),
        }
    }
}

/// How far this clock is ahead of now, if that is over the limit.
pub(crate) fn ahead(ms: u64, now_ms: u64) -> Option<u64> {
    ahead_of(ms, now_ms, AHEAD_MS_MAX)
}

/// The same for another limit.
pub(super) fn ahead_of(ms: u64, now_ms: u64, max_ms: u64) -> Option<u64> {
    let ahead = ms.saturating_sub(now_ms);
    (ahead > max_ms).then_some(ahead)
}

/// Why no store takes a record, at any time.
pub(crate) fn fault(record: &Record) -> Option<Fault> {
    let times = [Some(record.version.clock.ms), record.expires_ms];
    if times.iter().flatten().any(|ms| *ms >= EXACT_MAX) {
        return Some(Fault::Inexact);
    }
    let bytes = record.value.as_ref().map_or(0, |value| value.0.len());
    (bytes > VALUE_BYTES_MAX).then_some(Fault::TooLarge(bytes))
}

/// The same for a write of this unit.
pub(crate) fn fault_of_change(change: &Change<'_>) -> Option<Fault> {
    let Change::Put { value, expires_ms } = change else {
        return None;
    };
    if expires_ms.is_some_and(|ms| ms >= EXACT_MAX) {
        return Some(Fault::Inexact);
    }
    (value.len() > VALUE_BYTES_MAX).then_some(Fault::TooLarge(value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_be_ahead_by_the_offset_and_no_more() {
        assert_eq!(ahead(1_000, 2_000), None);
        assert_eq!(ahead(2_000 + AHEAD_MS_MAX, 2_000), None);
        let over = AHEAD_MS_MAX + 1;
        assert_eq!(ahead(2_000 + over, 2_000), Some(over));
    }

    #[test]
    fn a_date_that_lua_would_round_is_refused_before_it_is_written() {
        let put = |expires_ms| Change::Put {
            value: b"v",
            expires_ms,
        };
        assert_eq!(fault_of_change(&put(Some(EXACT_MAX - 1))), None);
        for date in [EXACT_MAX, u64::MAX] {
            assert_eq!(fault_of_change(&put(Some(date))), Some(Fault::Inexact));
        }
    }
}
