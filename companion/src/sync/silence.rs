//! How long peers have sent nothing. Each sends its digests at intervals, so one that misses several is away, cannot
//! send here, or has other members. Pure.

use std::collections::BTreeMap;

use unitring_protocol::ids::UnitId;

/// A unit that sends nothing for this many digest intervals, and for this long, is silent.
const SILENT_INTERVALS: u64 = 3;
const SILENT_MIN_MS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Silence {
    /// When this unit began to listen.
    started_ms: u64,
    /// Our own interval of digests, which also counts for a peer of an earlier version: it does not send its own.
    interval_ms: u64,
    /// When each unit was last heard, and its interval.
    heard: BTreeMap<UnitId, (u64, u64)>,
}

impl Silence {
    pub(super) fn new(interval_ms: u64, now_ms: u64) -> Self {
        Self {
            started_ms: now_ms,
            interval_ms,
            heard: BTreeMap::new(),
        }
    }

    /// A message of the peer arrived, which may tell its interval of digests.
    pub(super) fn heard(&mut self, peer: &UnitId, told_ms: Option<u64>, now_ms: u64) {
        let known_ms = self.heard.get(peer).map(|(_, interval_ms)| *interval_ms);
        let interval_ms = told_ms.or(known_ms).unwrap_or(self.interval_ms);
        self.heard.insert(peer.clone(), (now_ms, interval_ms));
    }

    /// For how long the peer has been silent; `None` if that is no longer than usual.
    pub(super) fn ms(&self, peer: &UnitId, now_ms: u64) -> Option<u64> {
        let heard = self.heard.get(peer).copied();
        let (heard_ms, interval_ms) = heard.unwrap_or((self.started_ms, self.interval_ms));
        let usual_ms = interval_ms
            .saturating_mul(SILENT_INTERVALS)
            .max(SILENT_MIN_MS);
        let silent_ms = now_ms.saturating_sub(heard_ms);
        (silent_ms > usual_ms).then_some(silent_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_silent_once_it_misses_three_of_its_own_intervals() {
        let west: UnitId = "west".parse().unwrap();
        let mut silence = Silence::new(5_000, 1_000);
        assert_eq!(silence.ms(&west, 16_000), None);
        assert_eq!(silence.ms(&west, 16_001), Some(15_001));
        silence.heard(&west, Some(60_000), 20_000);
        silence.heard(&west, None, 30_000);
        assert_eq!(silence.ms(&west, 210_000), None);
        assert_eq!(silence.ms(&west, 210_001), Some(180_001));
    }

    #[test]
    fn short_and_endless_intervals_are_no_trap() {
        let west: UnitId = "west".parse().unwrap();
        let mut silence = Silence::new(10, 0);
        assert_eq!(silence.ms(&west, SILENT_MIN_MS), None);
        assert_eq!(silence.ms(&west, SILENT_MIN_MS + 1), Some(10_001));
        silence.heard(&west, Some(u64::MAX), 0);
        assert_eq!(silence.ms(&west, u64::MAX), None);
    }
}
