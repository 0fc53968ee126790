//! Units that leave and return, as `unit remove` and `unit add` do it.

use std::collections::BTreeSet;

use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::envelope::Envelope;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Record, RecordId};

use super::broken::Broken;
use super::faults::Faults;
use super::store::{Store, id};
use super::world::{Node, STEP_MS, World, unit};
use crate::replica::digest::bucket_of;
use crate::sync::members::{self, DATASET};

/// How often a unit reads who left, in ms.
const LOOK_MS: u64 = 1_000;
/// A unit that sent something within this time still runs, so it is not added.
const STRANGER_MS: u64 = 3_000;

/// A unit that left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absent {
    at: usize,
    /// When its companions stop, and it is added again some time later.
    stops_ms: u64,
}

fn record(unit: &UnitId) -> RecordId {
    id(DATASET, unit.as_str())
}

impl Store {
    /// The record that removes a unit, if it does.
    fn removal(&self, unit: &UnitId) -> Option<Record> {
        let id = record(unit);
        let bucket = self.buckets.get(&bucket_of(&id));
        let (mark, value) = bucket?.records.get(&id)?;
        let record = mark
            .clone()
            .record(id, value.as_ref().map(|it| it.0.clone()));
        record.filter(|record| record.value.is_some())
    }

    /// Which of these units left. Of the store's own unit, another store may have.
    fn removed(&self, units: &[UnitId]) -> BTreeSet<UnitId> {
        let has_left = |unit: &&UnitId| {
            let removal = self.removal(unit).and_then(|removal| removal.value);
            let is_own = **unit == self.rules.unit && self.broken != Broken::OldRemoval;
            removal.is_some_and(|value| !is_own || members::is_about(&value, self.identity))
        };
        units.iter().filter(has_left).cloned().collect()
    }
}

impl World {
    pub(super) fn membership(&mut self, faults: Faults) {
        if !self.members_change {
            return;
        }
        match self.absent {
            None if self.dice.roll(1_000) < u64::from(faults.leaving) => self.remove(),
            None => {}
            Some(absent) => self.bring_back(absent),
        }
        if self.now_ms.is_multiple_of(LOOK_MS) {
            (0..self.nodes.len()).for_each(|at| self.look(at));
        }
    }

    /// Lets the unit that left come back, and everyone learn of it.
    pub(super) fn complete(&mut self) {
        for _ in 0..2_000 {
            if self.absent.is_none() {
                return self.empty_again();
            }
            self.step(Faults::default());
        }
        let why = || "a unit that left does not come back".to_owned();
        self.wrong.get_or_insert_with(why);
    }

    /// What docs/sync.md says to do with a unit that was added and learned of its removal only then, from an outbox that
    /// was not sent before, if the removal does not name its earlier store: it is emptied again.
    fn empty_again(&mut self) {
        if !self.members_change {
            return;
        }
        for _ in 0..5 {
            self.run(10 * LOOK_MS / STEP_MS, Faults::default());
            let is_stuck = |node: &Node| {
                let removal = node.store.removal(&node.id);
                node.is_out && removal.is_some_and(|removal| !members::names_stores(&removal))
            };
            let Some(at) = self.nodes.iter().position(is_stuck) else {
                return;
            };
            self.lose_disk(at, None);
            self.nodes[at].queue.clear();
            self.start(at);
        }
    }

    /// A unit that takes writes, and is not this one.
    fn other(&mut self, than: usize, has: impl Fn(&Store) -> bool) -> Option<usize> {
        let all = 0..self.nodes.len();
        let may = all.filter(|at| {
            let node = &self.nodes[*at];
            *at != than && node.stopped_until_ms == 0 && !node.is_out && has(&node.store)
        });
        let may: Vec<usize> = may.collect();
        let turn = self.dice.place(may.len());
        may.get(turn).copied()
    }

    fn remove(&mut self) {
        // A change of members that only one unit knows would be lost with its store.
        let is_known =
            |node: &Node| node.removed.is_empty() && node.store.removed(&self.units).is_empty();
        if !self.nodes.iter().all(is_known) {
            return;
        }
        let at = self.dice.place(self.nodes.len());
        let Some(by) = self.other(at, |_| true) else {
            return;
        };
        // Who did not hear it since its own start does not know its store.
        let is_known = self.dice.hits(80);
        let stores = is_known.then_some(self.nodes[at].store.identity);
        let removal = members::removal(&stores.into_iter().collect());
        if self.tell(by, at, Some(removal.into_bytes())) {
            let stops_ms = self.now_ms + self.dice.roll(8_000);
            self.absent = Some(Absent { at, stops_ms });
        }
    }

    /// Writes in a unit whether another one is removed.
    fn tell(&mut self, by: usize, at: usize, value: Option<Vec<u8>>) -> bool {
        let id = record(&unit(at));
        let wall_ms = self.wall_ms(by);
        let over = self.nodes[by].store.version(bucket_of(&id), &id);
        let written = self.nodes[by].store.write(&id, value, None, wall_ms);
        let is_written = written.is_some();
        if let Some(record) = written {
            self.acknowledged(by, record, over);
        }
        is_written
    }

    /// Tells a unit that sends although it left.
    pub(super) fn tell_removed(&mut self, at: usize, unit: &UnitId) {
        let node = &self.nodes[at];
        let removal = node.store.removal(unit);
        let removal =
            removal.filter(|removal| node.removed.contains(unit) && members::names_stores(removal));
        let Some(removal) = removal else { return };
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            from: node.id.clone(),
            body: members::notice(removal),
        };
        let told = self.nodes.iter_mut().find(|node| node.id == *unit);
        if let Some(told) = told.filter(|told| told.has_queue) {
            told.queue.push_back((envelope, None));
        }
    }

    fn bring_back(&mut self, Absent { at, stops_ms }: Absent) {
        if self.now_ms < stops_ms {
            return;
        }
        if self.nodes[at].stopped_until_ms == 0 {
            if self.broken != Broken::OldStore {
                self.lose_disk(at, None);
            }
            let node = &mut self.nodes[at];
            node.inbox.clear();
            node.later.clear();
            node.up.clear();
            node.reads = false;
            node.stopped_until_ms = self.now_ms + STRANGER_MS;
            self.requeue(at);
            return;
        }
        if self.now_ms < self.nodes[at].stopped_until_ms {
            return;
        }
        // Any unit that knows of it may add it. If none does, an earlier change by a clock that was ahead won.
        let knows = |store: &Store| store.removed(&[unit(at)]).len() == 1;
        let by = self.other(at, knows);
        if by.is_none_or(|by| self.tell(by, at, None)) {
            self.absent = None;
            self.start(at);
        }
    }

    /// Starts the companions of a unit whose store is empty.
    fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.stopped_until_ms = 0;
        node.is_out = false;
        node.has_queue = true;
        node.removed.clear();
        node.members = (0..self.units.len()).collect();
        self.crash(at);
    }

    /// A unit reads who left. If that changed, it starts its sync again.
    pub(super) fn look(&mut self, at: usize) {
        let node = &self.nodes[at];
        let removed = node.store.removed(&self.units);
        if node.stopped_until_ms > 0 || removed == node.removed {
            return;
        }
        let is_out = removed.contains(&node.id);
        let units = self.units.len();
        let node = &mut self.nodes[at];
        if is_out && !node.is_out {
            node.out_since_ms = self.now_ms;
        }
        node.is_out = is_out;
        node.members = (0..units)
            .filter(|number| !removed.contains(&unit(*number)))
            .collect();
        node.removed.clone_from(&removed);
        self.crash(at);
        // The queue of a removed unit at the shared broker is deleted.
        for gone in self
            .nodes
            .iter_mut()
            .filter(|node| removed.contains(&node.id))
        {
            gone.queue.clear();
            gone.unacked.clear();
            gone.stale.clear();
            gone.reads = false;
            gone.has_queue = false;
        }
    }
}
