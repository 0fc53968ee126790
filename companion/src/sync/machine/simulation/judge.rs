//! The invariants: which records may be there after all that happened, and whether they are.

use std::collections::BTreeMap;

use unitring_protocol::envelope::Body;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Record, RecordId, Version};

use super::faults::Faults;
use super::world::{LARGE, Node, STEP_MS, World};

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) record: Record,
    pub(super) kept: Kept,
}

/// Whether a write is still anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    /// It went with the last disk that had it.
    No,
    /// Only in an answer under way, which the receiver does not have to use.
    Perhaps,
    Surely,
}

impl World {
    pub(super) fn check_positions(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            let now = node.store.positions();
            for (bucket, before) in &node.positions {
                for (unit, position) in before {
                    let at = now.get(bucket).and_then(|now| now.get(unit));
                    if at.is_none_or(|at| at < position) {
                        let id = &node.id;
                        return Err(format!(
                            "{id}: bucket {bucket}: {unit} from {position} to {at:?}"
                        ));
                    }
                }
            }
            node.positions = now;
        }
        Ok(())
    }

    /// The records that may be there: the last write of each key, by version.
    fn expected(&self) -> BTreeMap<RecordId, Vec<Option<Record>>> {
        let latest = |writes: &Vec<Write>| {
            let mut writes: Vec<&Write> = writes.iter().collect();
            writes.sort_by(|one, other| other.record.version.cmp(&one.record.version));
            let sure = writes.iter().position(|write| write.kept == Kept::Surely);
            let last = sure.map_or(writes.len(), |sure| sure + 1);
            let may = writes.into_iter().take(last);
            let may = may.filter(|write| write.kept != Kept::No);
            let live = |write: &Write| Some(&write.record).filter(|it| it.value.is_some()).cloned();
            let mut may: Vec<Option<Record>> = may.map(live).collect();
            may.extend(sure.is_none().then_some(None));
            may
        };
        let expected = self.writes.iter();
        expected
            .map(|(id, writes)| (id.clone(), latest(writes)))
            .collect()
    }

    /// Checks that all units hold the expected records, at this moment.
    pub(super) fn check(&self) -> Result<(), String> {
        // Clocks differ: a record that expires soon may be gone in one unit only.
        let soon = |record: &Record| {
            record
                .expires_ms
                .is_some_and(|ms| ms < self.now_ms + 40_000)
        };
        // A record that no broker takes stays where it was written, until it is written again.
        let large = |record: &Record| {
            record
                .value
                .as_ref()
                .is_some_and(|value| value.0.len() >= LARGE)
        };
        let expected = self.expected();
        let live = |node: &Node| node.store.live(0);
        let live: Vec<(&Node, BTreeMap<RecordId, Record>)> =
            self.nodes.iter().map(|node| (node, live(node))).collect();
        for (id, may) in &expected {
            if may
                .iter()
                .flatten()
                .any(|record| soon(record) || large(record))
            {
                continue;
            }
            let lost = |node: &Node| {
                let versions = may.iter().flatten().map(|record| record.version.clone());
                let mut pairs = versions.map(|version| (node.id.clone(), version));
                pairs.any(|pair| self.lost_values.contains(&pair))
            };
            let mut first = None;
            for (node, live) in &live {
                let is = live.get(id);
                if is.is_none() && lost(node) {
                    continue;
                }
                let is_right = may.iter().any(|may| may.as_ref() == is);
                if !is_right || *first.get_or_insert(is) != is {
                    return Err(format!("{}: {id}: must be {may:?}, is {is:?}", node.id));
                }
            }
        }
        Ok(())
    }

    /// Allows what this unit wrote so far, and no other unit has, to be lost.
    pub(super) fn forgive(&mut self, unit: &UnitId) {
        let queued = self.queued();
        for write in self.writes.values_mut().flatten() {
            let version = &write.record.version;
            if version.unit == *unit && !self.spread.contains(version) {
                let kept = queued.get(version).copied().unwrap_or(Kept::No);
                write.kept = write.kept.min(kept);
            }
        }
    }

    /// Versions that are on their way.
    pub(super) fn queued(&self) -> BTreeMap<Version, Kept> {
        let mut queued = BTreeMap::new();
        for node in &self.nodes {
            let queue = node.queue.iter().map(|(envelope, _)| envelope);
            for envelope in queue.chain(node.unacked.values()) {
                let (versions, kept): (Vec<&Version>, Kept) = match &envelope.body {
                    Body::Ops { parts } => {
                        let ops = parts.iter().flat_map(|part| &part.ops);
                        (ops.map(|op| &op.record.version).collect(), Kept::Surely)
                    }
                    Body::Repair(repair) => {
                        let records = repair.records.iter();
                        (records.map(|it| &it.version).collect(), Kept::Perhaps)
                    }
                    _ => continue,
                };
                for version in versions {
                    let known = queued.entry(version.clone()).or_insert(kept);
                    *known = (*known).max(kept);
                }
            }
        }
        queued
    }

    fn is_quiet(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| node.store.waiting().is_empty())
    }

    /// Lets time pass without faults until all units hold the expected records. Returns how many seconds that took.
    pub(super) fn settle(&mut self) -> Result<u64, String> {
        let mut last = Ok(());
        for second in 0..300 {
            last = self.check();
            if last.is_ok() && self.is_quiet() {
                return Ok(second);
            }
            self.run(1_000 / STEP_MS, Faults::default());
            self.check_positions()?;
        }
        last.and(Err("outboxes are not empty".to_owned()))
    }
}
