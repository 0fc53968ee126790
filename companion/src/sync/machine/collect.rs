//! When a tombstone may be forgotten: once no member can bring back what it deleted.
//!
//! Two rounds, by positions. The first waits until every member has applied all ops that were known when it
//! began, the deletion among them. What a member wrote before that has a number up to the one that it
//! tells then; the second waits until every member has applied those, too. Whatever is written after
//! knows of the deletion and comes later. What is still under way is a repeat, which positions cover,
//! or a repair that was read before: the fence refuses what is unknown in it.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Position;

use super::compare::{Compare, Told};
use super::{Effect, Moment};
use crate::store::Held;

/// Buckets that are collected in one look.
pub const COLLECTED_AT_ONCE_MAX: usize = 32;

type Positions = BTreeMap<UnitId, Position>;

/// How far a bucket is.
#[derive(Debug)]
struct Stage {
    /// What was gone before this moment is to be forgotten.
    before_ms: u64,
    /// What every member must have.
    needed: Positions,
    is_second: bool,
}

/// What is to be forgotten.
#[derive(Debug)]
pub(super) struct Collect {
    unit: UnitId,
    /// How long what is gone is kept at least.
    keep_ms: u64,
    interval_ms: u64,
    stages: BTreeMap<u8, Stage>,
}

/// Whether positions reach as far as these.
fn reach(has: &Positions, needed: &Positions) -> bool {
    let reaches = |(unit, at): (&UnitId, &Position)| has.get(unit).is_some_and(|has| has >= at);
    needed.iter().all(reaches)
}

/// Takes the later of each.
fn merge(into: &mut Positions, from: &Positions) {
    for (unit, position) in from {
        let known = into.entry(unit.clone()).or_default();
        *known = (*known).max(*position);
    }
}

impl Collect {
    pub(super) fn new(unit: UnitId, keep_ms: u64, interval_ms: u64) -> Self {
        Self {
            unit,
            keep_ms,
            interval_ms,
            stages: BTreeMap::new(),
        }
    }

    /// Looks at what this unit's buckets hold, and at what the others told of theirs.
    pub(super) fn look(
        &mut self,
        members: &BTreeSet<UnitId>,
        states: &[Held],
        compare: &Compare,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let is_fresh = |told: &Told| moment.now_ms < told.at_ms + 3 * self.interval_ms;
        let mut others = Vec::with_capacity(members.len());
        for member in members {
            match compare.told().get(member).filter(|told| is_fresh(told)) {
                Some(told) => others.push((member, told)),
                // Without a word from each nothing can be forgotten.
                None => return,
            }
        }
        let before_ms = moment.wall_ms.saturating_sub(self.keep_ms);
        let mut collected = 0;
        for held in states {
            let bucket = held.state.bucket;
            let none = Positions::new();
            let theirs: Vec<(&UnitId, &Positions)> = others
                .iter()
                .map(|(unit, told)| {
                    let state = told.buckets.get(&bucket);
                    (*unit, state.map_or(&none, |state| &state.positions))
                })
                .collect();
            let own = &held.state.positions;
            if held.gone_ms.is_none_or(|gone_ms| gone_ms > before_ms) {
                self.stages.remove(&bucket);
                continue;
            }
            let stage = self.stages.entry(bucket).or_insert_with(|| {
                let mut needed = own.clone();
                theirs
                    .iter()
                    .for_each(|(_, positions)| merge(&mut needed, positions));
                Stage {
                    before_ms,
                    needed,
                    is_second: false,
                }
            });
            let has_all = |stage: &Stage| {
                let mut all = theirs.iter().map(|(_, positions)| *positions).chain([own]);
                all.all(|positions| reach(positions, &stage.needed))
            };
            if !stage.is_second && has_all(stage) {
                // What each has written itself by now.
                for (unit, positions) in theirs.iter().copied().chain([(&self.unit, own)]) {
                    if let Some(position) = positions.get(unit) {
                        merge(&mut stage.needed, &[(unit.clone(), *position)].into());
                    }
                }
                stage.is_second = true;
            }
            let is_done = stage.is_second && has_all(stage) && !compare.is_diverged(bucket);
            if is_done && collected < COLLECTED_AT_ONCE_MAX {
                collected += 1;
                let needed = std::mem::take(&mut stage.needed);
                effects.push(Effect::Collect(bucket, stage.before_ms, needed));
                self.stages.remove(&bucket);
            }
        }
    }
}
