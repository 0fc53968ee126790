//! The writes of clients.

use unitring_protocol::record::{Record, RecordId};

use super::super::Input;
use super::broken::Broken;
use super::judge::{Kept, Write};
use super::store::key;
use super::world::{LARGE, STEP_MS, World};
use crate::replica::bounds::AHEAD_MS_MAX;
use crate::replica::digest::bucket_of;
use crate::store::Change;

/// A unit learns that it was removed within this time.
const LEARNS_MS: u64 = 1_500;

impl World {
    pub(super) fn write(&mut self) {
        let at = self.dice.place(self.nodes.len());
        let id = key(self.dice.roll(self.keys));
        let value = self
            .dice
            .hits(70)
            .then(|| self.dice.roll(1_000_000).to_string());
        let wall_ms = self.wall_ms(at) + self.dice.roll(STEP_MS);
        let expires = self.dice.hits(15).then(|| wall_ms + self.dice.roll(8_000));
        let is_large = self.large > 0 && self.dice.hits(self.large);
        let is_without_peers = self.without_peers > 0 && self.dice.hits(self.without_peers);
        let mut value = value.map(String::into_bytes);
        if let Some(value) = value.as_mut().filter(|_| is_large) {
            value.resize(LARGE, b'0');
        }
        if !self.admits(at) {
            return;
        }
        let over = self.nodes[at].store.version(bucket_of(&id), &id);
        let store = &mut self.nodes[at].store;
        let written = if is_without_peers {
            store.write_without_peers(&id, value, expires, wall_ms)
        } else {
            store.write(&id, value, expires, wall_ms)
        };
        if let Some(record) = written {
            self.acknowledged(at, record, over);
        }
    }

    /// Whether a unit takes writes: its companions run, and do not know that it was removed.
    fn admits(&mut self, at: usize) -> bool {
        let node = &self.nodes[at];
        if node.stopped_until_ms > 0 || (node.is_out && self.broken != Broken::Removed) {
            return false;
        }
        if node.is_out && node.out_since_ms + LEARNS_MS < self.now_ms {
            let why = format!("{} writes, and knows that it was removed", node.id);
            self.wrong.get_or_insert(why);
        }
        true
    }

    /// Notes a write that a unit acknowledged.
    pub(super) fn acknowledged(
        &mut self,
        at: usize,
        record: Record,
        over: Option<unitring_protocol::record::Version>,
    ) {
        let wall_ms = self.wall_ms(at) + STEP_MS;
        let ahead_ms = record.version.clock.ms.saturating_sub(wall_ms);
        // The counter of its clock may run over into the next millisecond.
        if ahead_ms > AHEAD_MS_MAX + STEP_MS {
            let why = format!("{record:?} is acknowledged, {ahead_ms} ms ahead");
            self.wrong.get_or_insert(why);
        }
        let bucket = bucket_of(&record.id);
        let node = &mut self.nodes[at];
        self.history
            .make(&mut node.store.seen, record.clone(), over);
        // The machine gets no hint of one in five: another companion of the unit wrote it.
        if self.dice.hits(80) {
            node.inbox.push_back(Input::Written([bucket].into()));
        }
        // docs/sync.md does not promise deletions of a store that went back.
        let is_undone = node.went_back && record.is_deleted();
        let kept = match node.is_twin || is_undone {
            true => Kept::Perhaps,
            false => Kept::Surely,
        };
        let writes = self.writes.entry(record.id.clone()).or_default();
        writes.push(Write { record, kept });
    }

    /// Every unit changes every record, as its clients may again.
    pub(super) fn write_everything(&mut self) -> Result<(), String> {
        for number in 0..self.keys {
            let id = key(number);
            for at in 0..self.nodes.len() {
                let value = format!("last {number} of {at}");
                let over = self.nodes[at].store.version(bucket_of(&id), &id);
                let wall_ms = self.wall_ms(at);
                let store = &mut self.nodes[at].store;
                store.room = usize::MAX;
                let written = store.write(&id, Some(value.into_bytes()), None, wall_ms);
                let Some(record) = written else {
                    return Err(format!("{} refuses {id}", self.nodes[at].id));
                };
                self.acknowledged(at, record, over);
            }
        }
        Ok(())
    }

    /// The operator's way back from a clock of the future, in a unit.
    pub(super) fn set_clocks_back(&mut self, at: usize) {
        let wall_ms = self.wall_ms(at);
        self.nodes[at].store.reset_clocks(wall_ms);
        self.nodes[at].positions.clear();
        for id in self.nodes[at].store.ahead(wall_ms) {
            let (bucket, id): (u8, RecordId) = (bucket_of(&id), id);
            let over = self.nodes[at].store.version(bucket, &id);
            let store = &mut self.nodes[at].store;
            let Some(version) = store.change(&id, Change::Again, wall_ms) else {
                continue;
            };
            // No unit holds the version of the future any more.
            let writes = self.writes.entry(id.clone()).or_default();
            let ahead = |write: &Write| Some(&write.record.version) == over.as_ref();
            let Some(write) = writes.iter_mut().find(|write| ahead(write)) else {
                continue;
            };
            let record = Record {
                version,
                ..write.record.clone()
            };
            let seen = &mut self.nodes[at].store.seen;
            self.history.again(seen, &id, &write.record.version);
            for write in writes {
                if write.record.version.clock.ms > wall_ms + AHEAD_MS_MAX {
                    write.kept = Kept::No;
                }
            }
            self.acknowledged(at, record, over);
        }
    }
}
