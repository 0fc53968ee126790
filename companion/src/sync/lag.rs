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
pub struct Lag {
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
    pub(super) fn took(&mut self, unit: &UnitId, ms: u64) {
        let changes = match self.of_unit.get_mut(unit) {
            Some(changes) => changes,
            None => self.of_unit.entry(unit.clone()).or_default(),
        };
        if changes.len() >= CHANGES_MAX {
            changes.pop_front();
        }
        changes.push_back((Instant::now(), ms));
    }

    pub(super) fn of(&self, unit: &UnitId) -> Option<Lag> {
        let changes = self.of_unit.get(unit)?;
        let recent = changes.iter().filter(|(at, _)| at.elapsed() < LOOK_BACK);
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

    #[test]
    fn half_and_nearly_all_are_told_and_the_oldest_go() {
        let (mut lags, unit): (Lags, UnitId) = (Lags::default(), "west".parse().unwrap());
        assert_eq!(lags.of(&unit), None);
        lags.took(&unit, 1_000_000);
        for ms in (1..=100).cycle().take(CHANGES_MAX) {
            lags.took(&unit, ms);
        }
        let lag = lags.of(&unit).unwrap();
        assert_eq!((lag.p50_ms, lag.changes), (50, CHANGES_MAX));
        assert!((98..=99).contains(&lag.p99_ms), "{lag:?}");
    }
}
