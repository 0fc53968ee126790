//! Which conflicts a unit must list, by the history of the run and not by the rule under test.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::record::{Op, Position, RecordId, Version};

use super::history::History;
use super::store::Store;
use crate::replica::bounds::AHEAD_MS_MAX;
use crate::replica::{CONFLICT_VALUE_MAX, Mark};
use crate::store::{Applied, Batch, Conflict};

/// Two concurrent changes of a record: the one that lost, and the one that won.
type Pair = (RecordId, Version, Version);

/// The conflicts of a batch.
#[derive(Debug, Default)]
pub(super) struct Expected {
    must: BTreeSet<Pair>,
    /// Listed or not: our change knew the op's, which the rule cannot tell, or a repair's position covers the op.
    may: BTreeSet<Pair>,
    number: u8,
    /// How many conflicts the bucket had listed before.
    listed: usize,
}

impl Expected {
    /// What a store must list once it has applied this batch.
    pub(super) fn of(
        history: &History,
        store: &Store,
        (number, batch): &(u8, Batch),
        now_ms: u64,
    ) -> Self {
        let listed = store.buckets.get(number);
        let mut expected = Self {
            number: *number,
            listed: listed.map_or(0, |bucket| bucket.conflicts.len()),
            ..Self::default()
        };
        let is_ahead = |ms: u64| ms > now_ms + AHEAD_MS_MAX;
        let Batch::Ops {
            incarnation, ops, ..
        } = batch
        else {
            return expected;
        };
        let mut there: BTreeMap<RecordId, Option<Version>> = BTreeMap::new();
        for op in ops {
            let (id, version) = (&op.record.id, &op.record.version);
            if is_ahead(version.clock.ms) || is_ahead(*incarnation) {
                continue;
            }
            let there = there.entry(id.clone());
            let there = there.or_insert_with(|| store.version(*number, id));
            let is_covered = covers(store, *number, batch, op);
            expected.op((history, store), there.as_ref(), op, is_covered);
            if there.is_some() || !is_covered {
                *there = there.take().max(Some(version.clone()));
            }
        }
        expected
    }

    fn op(
        &mut self,
        (history, store): (&History, &Store),
        there: Option<&Version>,
        op: &Op,
        is_covered: bool,
    ) {
        let Some(there) = there else { return };
        let is_again = history.came(&store.seen, &op.record.id, &op.record.version);
        let pair = self.pair(history, store, there, op);
        let (id, new) = (&op.record.id, &op.record.version);
        if new < there && there.unit == store.rules.unit && !is_covered {
            // The rule takes it for unknown here, although a change of a third unit that came first may have replaced
            // it, or it may have come before and left a gap.
            self.may.insert((id.clone(), new.clone(), there.clone()));
        }
        match pair {
            Some(pair) if is_again || is_covered => drop(self.may.insert(pair)),
            Some(pair) => drop(self.must.insert(pair)),
            None => {}
        }
    }

    /// The conflict between the present change and an op that comes.
    fn pair(&self, history: &History, store: &Store, there: &Version, op: &Op) -> Option<Pair> {
        let (id, new) = (&op.record.id, &op.record.version);
        let is_ours = there.unit == store.rules.unit;
        if there.unit == new.unit {
            return None;
        }
        let superseded = superseded(history, op);
        let are_concurrent =
            |change: &Version| history.are_concurrent(id, there, change) == Some(true);
        if !are_concurrent(new) && !superseded.iter().any(are_concurrent) {
            return None;
        }
        if new < there {
            return is_ours.then(|| (id.clone(), new.clone(), there.clone()));
        }
        let (before, made) = (history.made(id, there)?, history.made(id, new)?);
        let over = match superseded.is_empty() {
            true => made.over.as_ref(),
            false => op.over.as_ref(),
        };
        let knew_none = match over {
            Some(over) => over < there,
            None => !before.record.is_deleted(),
        };
        knew_none.then(|| (id.clone(), there.clone(), new.clone()))
    }

    /// Checks what the store listed, and how many it counted.
    pub(super) fn check(
        mut self,
        history: &History,
        store: &Store,
        applied: Applied,
    ) -> Result<(), String> {
        let unit = &store.rules.unit;
        let bucket = store.buckets.get(&self.number);
        let all = bucket.map_or(&[][..], |bucket| &bucket.conflicts);
        let new = all.get(self.listed..).unwrap_or_default();
        for conflict in new {
            self.listed(history, store, conflict)
                .map_err(|why| format!("{unit}: {why}"))?;
        }
        if applied.conflicts != new.len() as u64 {
            let counted = applied.conflicts;
            return Err(format!("{unit}: {new:?}, {counted} counted"));
        }
        match self.must.first() {
            Some(pair) => Err(format!("{unit}: a conflict is not listed: {pair:?}")),
            None => Ok(()),
        }
    }

    fn listed(
        &mut self,
        history: &History,
        store: &Store,
        conflict: &Conflict,
    ) -> Result<(), String> {
        let id = &conflict.record;
        let lost: Mark = conflict.lost.parse().map_err(|_| conflict.lost.clone())?;
        let kept: Version = conflict.kept.parse().map_err(|_| conflict.kept.clone())?;
        let (Some(made), Some(_)) = (history.made(id, &lost.version), history.number(id, &kept))
        else {
            // One of them is forged, or not judged.
            return Ok(());
        };
        let pair = (id.clone(), lost.version.clone(), kept);
        if !self.must.remove(&pair) && !self.may.contains(&pair) {
            return Err(format!("no conflict: {conflict:?}"));
        }
        let value = made.record.value.as_ref();
        let value = value.filter(|value| value.0.len() <= CONFLICT_VALUE_MAX);
        // It may have expired by then, or the store may have lost it.
        let may_be_gone = store.loses_values || made.record.expires_ms.is_some();
        let is_gone = conflict.value.is_none() && may_be_gone;
        let is_right = conflict.value.as_ref() == value || is_gone;
        if lost.is_deleted != made.record.is_deleted() || !is_right {
            return Err(format!("{conflict:?} of {:?}", made.record));
        }
        Ok(())
    }
}

/// Whether the position of an op's unit covers it.
fn covers(store: &Store, number: u8, batch: &Batch, op: &Op) -> bool {
    let Batch::Ops {
        origin,
        incarnation,
        ..
    } = batch
    else {
        return false;
    };
    let here = Position {
        incarnation: *incarnation,
        sequence: op.sequence,
    };
    let bucket = store.buckets.get(&number);
    let applied = bucket.and_then(|bucket| bucket.applied.get(origin));
    applied.is_some_and(|applied| here <= *applied)
}

/// The changes that an op of a message stands for beside its own: it came with what the first of them replaced.
fn superseded(history: &History, op: &Op) -> Vec<Version> {
    let over = |version: &Version| {
        let made = history.made(&op.record.id, version);
        made.and_then(|made| made.over.clone())
    };
    let mut superseded = Vec::new();
    let mut before = over(&op.record.version);
    // The first change of a record is never superseded.
    while before != op.over {
        let Some(version) = before.filter(|_| op.over.is_some()) else {
            return Vec::new();
        };
        before = over(&version);
        superseded.push(version);
    }
    superseded
}
