//! The peers' digests and ours → what differs.
//!
//! Two digests can be compared only at equal positions: there they must be equal. Where this unit
//! is behind, ops are usually on their way. If nothing moves for some rounds they are lost (a queue
//! was deleted, this unit is new, or its store lost data), and a repair brings them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use unitring_protocol::digest::BucketState;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Position;

use super::{Effect, Note, count};
use crate::store::Held;

/// Most buckets with open repair requests to a unit.
pub(crate) const ASKED_MAX: usize = 64;
/// Rounds without progress after which ops count as lost, if no others arrive from their unit …
const QUIET_ROUNDS: u32 = 3;
/// … and if others do: then the missing ones may be queued behind them.
const BUSY_ROUNDS: u32 = 12;
/// Rounds without progress where this unit holds nothing at all.
const NEW_ROUNDS: u32 = 2;

/// Fruitless repairs in a row of a bucket, after which its digests are recomputed.
const RECOUNT_AFTER: u32 = 2;
/// The pause between fruitless repairs doubles, up to 2 to the power of this, in rounds.
const FRUITLESS_POWER_MAX: u32 = 5;

/// The result of a comparison with another unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Comparison {
    /// When it was made, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How many buckets are at equal positions on both sides.
    pub comparable: usize,
    /// Buckets at equal positions whose digests differ.
    pub diverged: BTreeSet<u8>,
    /// Buckets in which this unit is behind the other.
    pub behind: BTreeSet<u8>,
    /// Ops that the other unit has and this unit lacks.
    pub missing: u64,
}

/// The last digests of a unit.
#[derive(Debug)]
pub(super) struct Told {
    /// When they were received.
    pub(super) at_ms: u64,
    pub(super) epoch: u64,
    pub(super) buckets: BTreeMap<u8, BucketState>,
}

/// The positions at which this unit was behind, and for how many rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Behind {
    positions: BTreeMap<UnitId, Position>,
    heard_ms: u64,
    rounds: u32,
}

/// The state of the peers, as far as this unit knows it.
#[derive(Debug)]
pub(super) struct Compare {
    unit: UnitId,
    interval_ms: u64,
    told: BTreeMap<UnitId, Told>,
    /// Peers whose last digests are not compared yet.
    fresh: BTreeSet<UnitId>,
    diverged: BTreeMap<UnitId, BTreeSet<u8>>,
    behind: BTreeMap<(UnitId, u8), Behind>,
    /// Open repair requests, and when they were sent.
    asked_ms: BTreeMap<(UnitId, u8), u64>,
    /// Peers that have more buckets to ask for than [`ASKED_MAX`] allows.
    more: BTreeSet<UnitId>,
    last_ops_ms: BTreeMap<UnitId, u64>,
    /// Repairs that ended, and whose bucket has not been compared since.
    ended: BTreeSet<(UnitId, u8)>,
    /// Repairs in a row that left a bucket different, and the time before which it is not asked for
    /// again.
    fruitless: BTreeMap<(UnitId, u8), (u32, u64)>,
}

/// The units whose ops `theirs` has more of than `mine`, with the position in `mine`.
fn ahead(theirs: &BucketState, mine: &BucketState) -> BTreeMap<UnitId, Position> {
    theirs
        .positions
        .iter()
        .filter_map(|(unit, position)| {
            let own = mine.positions.get(unit).copied().unwrap_or_default();
            (*position > own).then(|| (unit.clone(), own))
        })
        .collect()
}

/// How many ops lie between the positions; in another incarnation all of its ops count.
fn between(theirs: &BucketState, ahead: &BTreeMap<UnitId, Position>) -> u64 {
    let missing = ahead.iter().map(|(unit, own)| {
        let theirs = theirs.positions.get(unit).copied().unwrap_or_default();
        let from = if own.incarnation == theirs.incarnation {
            own.sequence
        } else {
            0
        };
        theirs.sequence.saturating_sub(from)
    });
    // A peer may claim anything.
    missing.fold(0, u64::saturating_add)
}

impl Compare {
    pub(super) fn new(unit: UnitId, interval_ms: u64) -> Self {
        Self {
            unit,
            interval_ms,
            told: BTreeMap::new(),
            fresh: BTreeSet::new(),
            diverged: BTreeMap::new(),
            behind: BTreeMap::new(),
            asked_ms: BTreeMap::new(),
            more: BTreeSet::new(),
            last_ops_ms: BTreeMap::new(),
            ended: BTreeSet::new(),
            fruitless: BTreeMap::new(),
        }
    }

    pub(super) fn ops_from(&mut self, unit: &UnitId, now_ms: u64) {
        self.last_ops_ms.insert(unit.clone(), now_ms);
    }

    /// The last digests of each peer.
    pub(super) fn told(&self) -> &BTreeMap<UnitId, Told> {
        &self.told
    }

    /// Whether a bucket differs from that of some peer.
    pub(super) fn is_diverged(&self, bucket: u8) -> bool {
        let mut diverged = self.diverged.values();
        diverged.any(|buckets| buckets.contains(&bucket))
    }

    /// Keeps the digests of a peer; returns whether our own must be read to compare, as no read is
    /// under way.
    pub(super) fn heard(
        &mut self,
        from: UnitId,
        epoch: u64,
        buckets: Vec<BucketState>,
        now_ms: u64,
    ) -> bool {
        let is_first = self.fresh.is_empty();
        self.fresh.insert(from.clone());
        let buckets = buckets.into_iter().map(|state| (state.bucket, state));
        let told = Told {
            at_ms: now_ms,
            epoch,
            buckets: buckets.collect(),
        };
        self.told.insert(from, told);
        is_first
    }

    /// Which of these buckets to request from a unit: those without an open request.
    pub(super) fn asks(&mut self, of: &UnitId, buckets: &BTreeSet<u8>, now_ms: u64) -> Vec<u8> {
        let is_recent = |at: u64| now_ms < at + 2 * self.interval_ms;
        self.asked_ms.retain(|_, at| is_recent(*at));
        let all = (of.clone(), 0)..=(of.clone(), u8::MAX);
        let open = self.asked_ms.range(all).count();
        let mut asks = Vec::new();
        for bucket in buckets {
            let key = (of.clone(), *bucket);
            if self.asked_ms.contains_key(&key) {
                continue;
            }
            if open + asks.len() >= ASKED_MAX {
                self.more.insert(of.clone());
                break;
            }
            self.asked_ms.insert(key, now_ms);
            asks.push(*bucket);
        }
        asks
    }

    /// Notes that a requested repair ended; returns whether to compare again at once.
    pub(super) fn repaired(&mut self, by: &UnitId, bucket: u8) -> bool {
        self.asked_ms.remove(&(by.clone(), bucket));
        self.ended.insert((by.clone(), bucket));
        let all = (by.clone(), 0)..=(by.clone(), u8::MAX);
        if self.asked_ms.range(all).next().is_some() || !self.more.remove(by) {
            return false;
        }
        let is_first = self.fresh.is_empty();
        self.fresh.insert(by.clone());
        is_first
    }

    /// Compares with every peer whose digests are new; returns the repairs to request.
    pub(super) fn compare(
        &mut self,
        states: Option<(u64, &[Held])>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Vec<(UnitId, Vec<u8>)> {
        let fresh = std::mem::take(&mut self.fresh);
        let Some((epoch, states)) = states else {
            return Vec::new();
        };
        let states = states.iter().map(|held| (held.state.bucket, &held.state));
        let mine: BTreeMap<u8, &BucketState> = states.collect();
        let mut asks = Vec::new();
        for from in fresh {
            let Some(told) = self.told.remove(&from) else {
                continue;
            };
            let (comparison, wanted) = self.one(&from, &told, epoch, &mine, now_ms, effects);
            self.told.insert(from.clone(), told);
            self.diverged
                .insert(from.clone(), comparison.diverged.clone());
            effects.push(Effect::Compared(from.clone(), comparison));
            let wanted = self.asks(&from, &wanted, now_ms);
            if !wanted.is_empty() {
                asks.push((from, wanted));
            }
        }
        asks
    }

    fn one(
        &mut self,
        from: &UnitId,
        told: &Told,
        epoch: u64,
        mine: &BTreeMap<u8, &BucketState>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> (Comparison, BTreeSet<u8>) {
        let mut comparison = Comparison {
            at_ms: now_ms,
            ..Comparison::default()
        };
        let is_new = mine.values().all(|state| state.positions.is_empty());
        let mut stalled = BTreeSet::new();
        let nothing = BucketState::default();
        for state in told.buckets.values() {
            let own = mine.get(&state.bucket).copied().unwrap_or(&nothing);
            if state.positions == own.positions && told.epoch == epoch {
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
            comparison.missing = comparison.missing.saturating_add(between(state, &ahead));
            if self.is_stalled(from, state.bucket, ahead, (told.at_ms, now_ms), is_new) {
                stalled.insert(state.bucket);
            }
        }
        let diverged = count(comparison.diverged.len());
        effects.push(Effect::Note(Note::Diverged, diverged));
        effects.push(Effect::Note(Note::Stalled, count(stalled.len())));
        for bucket in &comparison.diverged {
            if self.is_worth_a_repair(from, *bucket, now_ms, effects) {
                stalled.insert(*bucket);
            }
        }
        self.fruitless
            .retain(|(unit, bucket), _| unit != from || comparison.diverged.contains(bucket));
        (comparison, stalled)
    }

    /// Whether a repair may help: the pause after a fruitless one grows, and as our own digest may
    /// be wrong, it is recomputed once.
    fn is_worth_a_repair(
        &mut self,
        from: &UnitId,
        bucket: u8,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let key = (from.clone(), bucket);
        if self.ended.remove(&key) {
            let (times, until_ms) = self.fruitless.entry(key.clone()).or_default();
            *times = times.saturating_add(1);
            let intervals = 1_u64 << (*times).min(FRUITLESS_POWER_MAX);
            *until_ms = now_ms + intervals * self.interval_ms;
            if *times == RECOUNT_AFTER {
                effects.push(Effect::Recount(bucket));
            }
        }
        let until_ms = self.fruitless.get(&key).map(|(_, until_ms)| *until_ms);
        until_ms.is_none_or(|until_ms| until_ms <= now_ms)
    }

    fn is_stalled(
        &mut self,
        from: &UnitId,
        bucket: u8,
        positions: BTreeMap<UnitId, Position>,
        (heard_ms, now_ms): (u64, u64),
        is_new: bool,
    ) -> bool {
        // Another unit has ops of ours that we lack: our store lost them.
        if positions.contains_key(&self.unit) {
            return true;
        }
        let is_busy = positions.keys().any(|unit| {
            let last = self.last_ops_ms.get(unit).copied();
            last.is_some_and(|at| now_ms < at + 2 * self.interval_ms)
        });
        let begun = Behind {
            positions,
            heard_ms,
            rounds: 1,
        };
        let entry = self.behind.entry((from.clone(), bucket));
        let behind = entry.or_insert_with(|| begun.clone());
        if behind.positions != begun.positions {
            *behind = begun;
        } else if behind.heard_ms != heard_ms {
            behind.heard_ms = heard_ms;
            behind.rounds = behind.rounds.saturating_add(1);
        }
        let needed = match (is_new, is_busy) {
            (true, _) => NEW_ROUNDS,
            (false, true) => BUSY_ROUNDS,
            (false, false) => QUIET_ROUNDS,
        };
        behind.rounds >= needed
    }
}
