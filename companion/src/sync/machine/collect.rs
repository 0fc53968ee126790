//! Tombstone collection: a tombstone may go once no member can bring back the record that it
//! deleted.
//!
//! It takes two rounds of positions. The first waits until every member has applied all ops that
//! were known when it began, the deletion among them. A change that a member wrote before that has
//! a number up to the one that the member reports then; the second round waits until every member
//! has applied those, too. Members that write later know of the deletion, so their changes rightly
//! win over it. After that, only repeated ops and earlier reads of repairs may still be on their
//! way: positions cover the former, and the fence refuses unknown records in the latter.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Position;

use super::compare::{Compare, Told};
use super::{Effect, Moment};
use crate::store::Held;

/// Most buckets that one look collects.
pub(crate) const COLLECTED_AT_ONCE_MAX: usize = 32;

type Positions = BTreeMap<UnitId, Position>;

/// How far the collection of a bucket is.
#[derive(Debug)]
struct Stage {
    /// Records that were gone before this moment are to be collected.
    before_ms: u64,
    /// The positions that every member must reach.
    needed: Positions,
    is_second: bool,
}

/// The collections under way.
#[derive(Debug)]
pub(super) struct Collect {
    unit: UnitId,
    /// How long tombstones and expired records are kept at least.
    keep_ms: u64,
    interval_ms: u64,
    stages: BTreeMap<u8, Stage>,
}

/// Whether `has` is at or after every position in `needed`.
fn reach(has: &Positions, needed: &Positions) -> bool {
    let reaches = |(unit, at): (&UnitId, &Position)| has.get(unit).is_some_and(|has| has >= at);
    needed.iter().all(reaches)
}

/// Keeps the later position of each unit.
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

    /// Advances the collection of each bucket by this unit's state and the digests last heard from
    /// the peers.
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
                // Nothing is collected without recent digests from every member.
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
                // Adds the ops that each member has written itself by now.
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
