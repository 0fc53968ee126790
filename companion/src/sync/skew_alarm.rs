//! Alarms about clocks that are too far apart. Pure; [`machine`](super::machine) measures the skew.

use std::collections::BTreeMap;

use unitring_protocol::ids::UnitId;

/// The last skew of each peer's clock, and whether it is over the limit.
#[derive(Debug)]
pub(super) struct SkewAlarms {
    max_ms: u64,
    skews: BTreeMap<UnitId, i64>,
}

/// The alarm about one clock after a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    Off,
    /// The skew is over the limit, and was not before.
    Raised,
    On,
    /// The skew is within the limit again.
    Cleared,
}

impl Alarm {
    pub(super) fn is_on(self) -> bool {
        matches!(self, Self::Raised | Self::On)
    }
}

impl SkewAlarms {
    /// The alarm is on while a skew is over `max_ms`, in either direction.
    pub(super) fn new(max_ms: u64) -> Self {
        Self {
            max_ms,
            skews: BTreeMap::new(),
        }
    }

    /// Takes a measurement: how far the peer's clock is ahead of ours.
    pub(super) fn measured(&mut self, unit: &UnitId, skew_ms: i64) -> Alarm {
        let before = self.skews.insert(unit.clone(), skew_ms).unwrap_or(0);
        let is_over = |skew_ms: i64| skew_ms.unsigned_abs() > self.max_ms;
        match (is_over(before), is_over(skew_ms)) {
            (false, false) => Alarm::Off,
            (false, true) => Alarm::Raised,
            (true, true) => Alarm::On,
            (true, false) => Alarm::Cleared,
        }
    }

    /// How far the peer's clock is ahead of ours; 0 before the first measurement.
    pub(super) fn skew_ms(&self, unit: &UnitId) -> i64 {
        self.skews.get(unit).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_raised_once_and_cleared_once_whichever_clock_is_ahead() {
        let (west, north): (UnitId, UnitId) = ("west".parse().unwrap(), "north".parse().unwrap());
        let mut alarms = SkewAlarms::new(500);
        assert_eq!(alarms.skew_ms(&west), 0);
        assert_eq!(alarms.measured(&west, 500), Alarm::Off);
        assert_eq!(alarms.measured(&west, -501), Alarm::Raised);
        assert_eq!(alarms.measured(&west, 501), Alarm::On);
        assert_eq!(alarms.measured(&north, 0), Alarm::Off);
        assert_eq!(alarms.skew_ms(&west), 501);
        assert_eq!(alarms.measured(&west, i64::MIN), Alarm::On);
        assert_eq!(alarms.measured(&west, 0), Alarm::Cleared);
        assert_eq!(alarms.measured(&west, 0), Alarm::Off);
        assert!(Alarm::Raised.is_on() && Alarm::On.is_on());
        assert!(!Alarm::Cleared.is_on() && !Alarm::Off.is_on());
    }
}
