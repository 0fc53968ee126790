//! The invariants: which records may be there after all that happened, and whether they are.

use std::collections::BTreeMap;

use unitring_protocol::digest::BucketState;
use unitring_protocol::envelope::Body;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Record, RecordId, Version};

use super::faults::Faults;
use super::liar::forged;
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
            let is_sure = |write: &&Write| write.kept == Kept::Surely;
            let sure = writes.iter().position(is_sure);
            // Lies about positions may undo a deletion.
            let is_deleted = |at: &usize| writes[*at].record.is_deleted();
            let sure = sure.filter(|at| !self.has_lied || !is_deleted(at));
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
        if let Some(why) = &self.wrong {
            return Err(why.clone());
        }
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
        self.check_forged(&live)
    }

    /// Checks that all units hold the same of what nobody wrote.
    fn check_forged(&self, live: &[(&Node, BTreeMap<RecordId, Record>)]) -> Result<(), String> {
        let Some((_, first)) = live.first() else {
            return Ok(());
        };
        for id in forged() {
            for (node, live) in live {
                if live.get(&id) != first.get(&id) {
                    let (is, other) = (live.get(&id), first.get(&id));
                    return Err(format!(
                        "{}: {id}: is {is:?}, and {other:?} elsewhere",
                        node.id
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks that nothing is left of what went wrong: buckets are the same everywhere, no tombstone stays that
    /// may go, and no store holds a number that Redis rounds or a clock that peers refuse.
    fn is_at_rest(&self) -> Result<(), String> {
        let mut first: Option<Vec<BucketState>> = None;
        for (at, node) in self.nodes.iter().enumerate() {
            let wall_ms = self.wall_ms(at);
            let states = node
                .store
                .states(wall_ms)
                .into_iter()
                .map(|held| held.state);
            let states = states.filter(|state| !state.positions.is_empty()).collect();
            let states: Vec<BucketState> = states;
            let first = first.get_or_insert_with(|| states.clone());
            if let Some((is, other)) = states.iter().zip(&*first).find(|(is, other)| is != other) {
                return Err(format!(
                    "{}: {}, and {} elsewhere",
                    node.id,
                    text(is),
                    text(other)
                ));
            }
            let gone = node
                .store
                .gone_before(wall_ms.saturating_sub(self.rules.keep_ms));
            if gone > 0 {
                return Err(format!("{}: {gone} tombstones stay", node.id));
            }
            node.store.check_numbers(wall_ms)?;
        }
        Ok(())
    }

    /// Lets time pass until nothing is left of what went wrong.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        let mut last = Ok(());
        for _ in 0..120 {
            last = self.is_at_rest();
            if last.is_ok() {
                break;
            }
            self.run(1_000 / STEP_MS, Faults::default());
        }
        last
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
        let mut nodes = self.nodes.iter();
        nodes.all(|node| node.store.waiting().is_empty())
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

fn text(state: &BucketState) -> String {
    let positions = state.positions.iter();
    let positions: Vec<String> = positions.map(|(unit, at)| format!("{unit} {at}")).collect();
    format!(
        "bucket {} {} {}",
        state.bucket,
        state.digest,
        positions.join(", ")
    )
}
