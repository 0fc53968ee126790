//! What no record may be beyond. Checked before the first step of a change: after it nothing may fail.
//!
//! One record that breaks a bound is set aside alone, with its name and the reason. What came with it is not
//! held up, and the position of its op counts as reached: nobody sends it for ever.

use std::fmt;

use unitring_protocol::record::{Record, VALUE_BYTES_MAX};

use super::Change;

/// Clocks, dates, sequences and incarnations stay below it, so that Redis' Lua, whose numbers are doubles,
/// rounds none of them.
pub const EXACT_MAX: u64 = 1 << 53;

/// The maximum offset: how far ahead of the clock here a change may be, in ms. One that is farther ahead would
/// win against everything that is written until then, and take the bucket's clock with it.
pub const AHEAD_MS_MAX: u64 = 60_000;

/// Why a record is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A number from 2^53 on.
    Inexact,
    /// Its clock is so far ahead of the one here, in ms.
    Ahead(u64),
    /// Its value is larger than may be.
    TooLarge(usize),
    /// It does not belong to the bucket that it came for.
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
            Self::OtherBucket => f.write_str("it is of another bucket than it says"),
        }
    }
}

/// By how much this clock is farther ahead of now than may be.
pub fn ahead(ms: u64, now_ms: u64) -> Option<u64> {
    ahead_of(ms, now_ms, AHEAD_MS_MAX)
}

/// The same for another maximum.
pub(super) fn ahead_of(ms: u64, now_ms: u64, max_ms: u64) -> Option<u64> {
    let ahead = ms.saturating_sub(now_ms);
    (ahead > max_ms).then_some(ahead)
}

/// What no store takes of a record, whenever it comes.
pub fn fault(record: &Record) -> Option<Fault> {
    let times = [Some(record.version.clock.ms), record.expires_ms];
    if times.iter().flatten().any(|ms| *ms >= EXACT_MAX) {
        return Some(Fault::Inexact);
    }
    let bytes = record.value.as_ref().map_or(0, |value| value.0.len());
    (bytes > VALUE_BYTES_MAX).then_some(Fault::TooLarge(bytes))
}

/// The same of a write here.
pub fn fault_of_change(change: &Change<'_>) -> Option<Fault> {
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
