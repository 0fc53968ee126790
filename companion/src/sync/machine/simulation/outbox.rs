//! The outbox of a simulated store, and its cursors.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position};

use super::broken::Broken;
use super::rows::Bucket;
use super::store::Store;
use crate::store::{Backlog, Cursors, Waiting};

/// Ops that are read at once.
const READ: usize = 3;

impl Store {
    pub(super) fn outboxes(&self, asked: &[(u8, Position)]) -> Vec<Waiting> {
        let none = Bucket::default();
        let read = |(number, after): &(u8, Position)| {
            let bucket = self.buckets.get(number).unwrap_or(&none);
            let is_same = after.incarnation == bucket.meta.own.incarnation;
            let after = if is_same { after.sequence } else { 0 };
            let mut rest = bucket.outbox.range(after + 1..);
            let ops = rest.by_ref().take(READ).map(|(sequence, op)| Op {
                sequence: *sequence,
                record: op.0.clone(),
                over: op.1.clone(),
                trace: None,
            });
            Waiting {
                incarnation: bucket.meta.own.incarnation,
                ops: ops.collect(),
                passed: BTreeSet::new(),
                last: bucket.meta.own.sequence,
                more: rest.next().is_some(),
            }
        };
        asked.iter().map(read).collect()
    }

    pub(super) fn cursors(&self) -> Cursors {
        self.cursors.clone()
    }

    pub(super) fn confirm(
        &mut self,
        unit: &UnitId,
        cursors: &[(u8, Position)],
        members: &[UnitId],
    ) {
        if self.is_full() && self.broken == Broken::Full {
            return;
        }
        for (number, through) in cursors {
            let bucket = self.buckets.entry(*number).or_default();
            if through.incarnation != bucket.meta.own.incarnation {
                continue;
            }
            let stored = self.cursors.entry(unit.clone()).or_default();
            let cursor = stored.entry(*number).or_default();
            let is_same = cursor.incarnation == through.incarnation;
            if !is_same || (*cursor < *through && self.broken != Broken::StoreAgain) {
                *cursor = *through;
            }
            let of = |unit| {
                let cursor = self.cursors.get(unit)?.get(number)?;
                (cursor.incarnation == through.incarnation).then_some(cursor.sequence)
            };
            let first = members.iter().map(|unit| of(unit).unwrap_or(0)).min();
            let first = first.unwrap_or(0);
            bucket.outbox.retain(|sequence, _| *sequence > first);
        }
    }

    pub(super) fn shorten(&mut self, keep: &[(u8, u64)]) {
        for (number, keep) in keep {
            let bucket = self.buckets.entry(*number).or_default();
            while bucket.outbox.len() as u64 > *keep {
                bucket.outbox.pop_first();
            }
        }
    }

    pub(super) fn waiting(&self) -> BTreeMap<u8, Backlog> {
        let waiting = self
            .buckets
            .iter()
            .map(|(number, bucket)| (*number, bucket.backlog()));
        waiting.filter(|(_, waiting)| waiting.ops > 0).collect()
    }
}
