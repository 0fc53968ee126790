//! Their digests and ours → what differs, and what of it to ask for.
//!
//! Two digests say something only at equal positions: there they must be equal. Where this unit
//! is behind, ops are usually on their way; if nothing moves for some rounds they are not (a queue was
//! deleted, this unit is new, or its store lost something), and a repair brings them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use unitring_protocol::digest::BucketState;
use unitring_protocol::ids::UnitId;

use super::{Effect, Note, count};

/// Buckets asked for at a time.
pub const ASKED_MAX: usize = 64;
/// Rounds without a move after which ops are taken for lost, while none come in …
const QUIET_ROUNDS: u32 = 3;
/// … and while others do: then these may be queued behind them.
const BUSY_ROUNDS: u32 = 12;

/// One comparison with another unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Buckets at equal positions on both sides.
    pub comparable: usize,
    /// Buckets of these that differ.
    pub diverged: BTreeSet<u8>,
    /// Buckets in which this unit is behind the other.
    pub behind: BTreeSet<u8>,
}

/// Where this unit was behind, and for how many rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Behind {
    positions: BTreeMap<UnitId, u64>,
    rounds: u32,
}

/// What is known of the others.
#[derive(Debug)]
pub(super) struct Compare {
    unit: UnitId,
    interval_ms: u64,
    /// Digests that wait for our own to be read; the latest of each unit.
    heard: BTreeMap<UnitId, Vec<BucketState>>,
    behind: BTreeMap<(UnitId, u8), Behind>,
    asked_ms: BTreeMap<(UnitId, u8), u64>,
    last_ops_ms: BTreeMap<UnitId, u64>,
}

/// The positions at which `theirs` has more than `mine`.
fn ahead(theirs: &BucketState, mine: &BucketState) -> BTreeMap<UnitId, u64> {
    theirs
        .positions
        .iter()
        .filter_map(|(unit, position)| {
            let own = mine.positions.get(unit).copied().unwrap_or(0);
            (*position > own).then(|| (unit.clone(), own))
        })
        .collect()
}

impl Compare {
    pub(super) fn new(unit: UnitId, interval_ms: u64) -> Self {
        Self {
            unit,
            interval_ms,
            heard: BTreeMap::new(),
            behind: BTreeMap::new(),
            asked_ms: BTreeMap::new(),
            last_ops_ms: BTreeMap::new(),
        }
    }

    pub(super) fn ops_from(&mut self, unit: &UnitId, now_ms: u64) {
        self.last_ops_ms.insert(unit.clone(), now_ms);
    }

    /// Keeps digests until our own are read; whether they have to be.
    pub(super) fn heard(&mut self, from: UnitId, buckets: Vec<BucketState>) -> bool {
        let is_first = self.heard.is_empty();
        self.heard.insert(from, buckets);
        is_first
    }

    /// Compares with all that were heard; answers what to ask of whom.
    pub(super) fn compare(
        &mut self,
        states: Option<Vec<BucketState>>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Vec<(UnitId, Vec<u8>)> {
        let heard = std::mem::take(&mut self.heard);
        let Some(states) = states else {
            return Vec::new();
        };
        let mine: BTreeMap<u8, BucketState> = states
            .into_iter()
            .map(|state| (state.bucket, state))
            .collect();
        let mut asks = Vec::new();
        for (from, theirs) in heard {
            let (comparison, wanted) = self.one(&from, &theirs, &mine, now_ms, effects);
            effects.push(Effect::Compared(from.clone(), comparison));
            if !wanted.is_empty() {
                asks.push((from, wanted));
            }
        }
        asks
    }

    fn one(
        &mut self,
        from: &UnitId,
        theirs: &[BucketState],
        mine: &BTreeMap<u8, BucketState>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> (Comparison, Vec<u8>) {
        let mut comparison = Comparison {
            at_ms: now_ms,
            ..Comparison::default()
        };
        let mut stalled = BTreeSet::new();
        let nothing = BucketState::default();
        for state in theirs {
            let own = mine.get(&state.bucket).unwrap_or(&nothing);
            if state.positions == own.positions {
                comparison.comparable += 1;
                if state.digest != own.digest {
                    comparison.diverged.insert(state.bucket);
                }
            }
            let ahead = ahead(state, own);
            if ahead.is_empty() {
                self.behind.remove(&(from.clone(), state.bucket));
                continue;
            }
            comparison.behind.insert(state.bucket);
            if self.is_stalled(from, state.bucket, ahead, now_ms) {
                stalled.insert(state.bucket);
            }
        }
        effects.push(Effect::Note(
            Note::Diverged,
            count(comparison.diverged.len()),
        ));
        effects.push(Effect::Note(Note::Stalled, count(stalled.len())));
        let mut wanted = Vec::new();
        for bucket in comparison.diverged.union(&stalled) {
            let key = (from.clone(), *bucket);
            let asked = self.asked_ms.get(&key).copied();
            let is_due = asked.is_none_or(|at| now_ms >= at + 2 * self.interval_ms);
            if is_due && wanted.len() < ASKED_MAX {
                self.asked_ms.insert(key, now_ms);
                wanted.push(*bucket);
            }
        }
        (comparison, wanted)
    }

    fn is_stalled(
        &mut self,
        from: &UnitId,
        bucket: u8,
        positions: BTreeMap<UnitId, u64>,
        now_ms: u64,
    ) -> bool {
        // Another unit has ops of ours that we do not: our store lost them.
        if positions.contains_key(&self.unit) {
            return true;
        }
        let is_busy = positions.keys().any(|unit| {
            let last = self.last_ops_ms.get(unit).copied();
            last.is_some_and(|at| now_ms < at + 2 * self.interval_ms)
        });
        let entry = self.behind.entry((from.clone(), bucket));
        let behind = entry.or_insert_with(|| Behind {
            positions: positions.clone(),
            rounds: 0,
        });
        if behind.positions == positions {
            behind.rounds = behind.rounds.saturating_add(1);
        } else {
            *behind = Behind {
                positions,
                rounds: 1,
            };
        }
        behind.rounds >= if is_busy { BUSY_ROUNDS } else { QUIET_ROUNDS }
    }
}
