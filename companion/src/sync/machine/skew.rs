//! How far the clocks of two units are apart: each unit sends when it sent its digests and when it
//! received the other's, as in NTP. The error is at most half the difference between the delays of
//! the two directions.

use std::collections::{BTreeMap, VecDeque};

use unitring_protocol::envelope::Echo;
use unitring_protocol::ids::UnitId;

/// Rounds of which the fastest counts: a message that waited says little.
const ROUNDS: usize = 8;

/// The observations of one unit's clock.
#[derive(Debug, Default)]
struct Clock {
    /// The last message: sent by the clock there, received by the clock here.
    last: Option<(u64, u64)>,
    /// How long messages took from there to here, plus the difference of the clocks.
    here: VecDeque<i64>,
    /// The same from here to there.
    there: VecDeque<i64>,
}

fn keep(rounds: &mut VecDeque<i64>, took: i64) {
    rounds.push_back(took);
    if rounds.len() > ROUNDS {
        rounds.pop_front();
    }
}

fn took(from_ms: u64, to_ms: u64) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(to_ms).saturating_sub(signed(from_ms))
}

/// The clocks of the peers.
#[derive(Debug, Default)]
pub(super) struct Skews {
    clocks: BTreeMap<UnitId, Clock>,
}

impl Skews {
    /// The echoes to send to all peers.
    pub(super) fn echoes(&self) -> Vec<Echo> {
        let heard = self.clocks.iter();
        heard
            .filter_map(|(unit, clock)| {
                let (sent_ms, heard_ms) = clock.last?;
                Some(Echo {
                    unit: unit.clone(),
                    sent_ms,
                    heard_ms,
                })
            })
            .collect()
    }

    /// Notes a peer's digests; returns how far its clock is ahead of ours, once that is known.
    pub(super) fn heard(
        &mut self,
        from: &UnitId,
        sent_ms: u64,
        echo: Option<&Echo>,
        wall_ms: u64,
    ) -> Option<i64> {
        let clock = self.clocks.entry(from.clone()).or_default();
        clock.last = Some((sent_ms, wall_ms));
        keep(&mut clock.here, took(sent_ms, wall_ms));
        if let Some(echo) = echo {
            keep(&mut clock.there, took(echo.sent_ms, echo.heard_ms));
        }
        let here = clock.here.iter().min()?;
        let there = clock.there.iter().min()?;
        Some(there.saturating_sub(*here) / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_is_seen_whatever_the_way_takes() {
        let (mut skews, there): (Skews, UnitId) = (Skews::default(), "west".parse().unwrap());
        assert_eq!(skews.heard(&there, 10_500, None, 10_020), None);
        // The peer's clock is 500 ms ahead, a message takes 20 ms, and the first one waited for 900
        // ms.
        for (sent, wait) in [(20_000_u64, 900), (30_000, 0)] {
            let echo = Echo {
                unit: "east".parse().unwrap(),
                sent_ms: sent,
                heard_ms: sent + 520 + wait,
            };
            skews.heard(&there, sent + 1_500, Some(&echo), sent + 1_020);
        }
        let echo = skews.echoes();
        assert_eq!((echo[0].sent_ms, echo[0].heard_ms), (31_500, 31_020));
        assert_eq!(skews.heard(&there, 41_500, None, 41_020), Some(500));
    }
}
