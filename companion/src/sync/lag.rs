//! Replication lag: how long changes of other units take until this unit has applied them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use unitring_protocol::ids::UnitId;

/// Most changes of a unit that count …
const CHANGES_MAX: usize = 4_096;
/// … and how old a change may be to count.
const LOOK_BACK: Duration = Duration::from_secs(60);

/// The replication lag of recent changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Lag {
    /// The median, in milliseconds.
    pub p50_ms: u64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: u64,
    /// How many changes were measured: those of the last minute, at most 4,096.
    pub changes: usize,
}

/// The lags of the changes of each unit.
#[derive(Debug, Default)]
pub(super) struct Lags {
    of_unit: BTreeMap<UnitId, VecDeque<(Instant, u64)>>,
}

impl Lags {
    /// Notes that a change took this long.
    pub(super) fn took(&mut self, unit: &UnitId, ms: u64, now: Instant) {
        let changes = match self.of_unit.get_mut(unit) {
            Some(changes) => changes,
            None => self.of_unit.entry(unit.clone()).or_default(),
        };
        if changes.len() >= CHANGES_MAX {
            changes.pop_front();
        }
        changes.push_back((now, ms));
    }

    pub(super) fn of(&self, unit: &UnitId, now: Instant) -> Option<Lag> {
        let changes = self.of_unit.get(unit)?;
        let is_recent = |at: Instant| now.saturating_duration_since(at) < LOOK_BACK;
        let recent = changes.iter().filter(|(at, _)| is_recent(*at));
        let mut took: Vec<u64> = recent.map(|(_, ms)| *ms).collect();
        took.sort_unstable();
        let at = |percent: usize| {
            let place = (took.len() * percent).div_ceil(100).saturating_sub(1);
            took.get(place).copied()
        };
        Some(Lag {
            p50_ms: at(50)?,
            p99_ms: at(99)?,
            changes: took.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn half_and_nearly_all_are_told_and_the_oldest_go() {
        let (mut lags, unit): (Lags, UnitId) = (Lags::default(), "west".parse().unwrap());
        let now = clock::now();
        assert_eq!(lags.of(&unit, now), None);
        lags.took(&unit, 1_000_000, now);
        for ms in (1..=100).cycle().take(CHANGES_MAX) {
            lags.took(&unit, ms, now);
        }
        let lag = lags.of(&unit, now).unwrap();
        assert_eq!((lag.p50_ms, lag.changes), (50, CHANGES_MAX));
        assert!((98..=99).contains(&lag.p99_ms), "{lag:?}");
    }

    #[test]
    fn a_change_of_more_than_a_minute_ago_does_not_count() {
        let (mut lags, unit): (Lags, UnitId) = (Lags::default(), "west".parse().unwrap());
        let start = clock::now();
        lags.took(&unit, 500, start);
        lags.took(&unit, 20, start + LOOK_BACK / 2);
        let lag = lags.of(&unit, start + LOOK_BACK).unwrap();
        assert_eq!((lag.p99_ms, lag.changes), (20, 1));
        assert_eq!(lags.of(&unit, start + 2 * LOOK_BACK), None);
    }
}
