//! The writes of clients.

use super::super::Input;
use super::judge::{Kept, Write};
use super::world::{LARGE, STEP_MS, World};

impl World {
    pub(super) fn write(&mut self) {
        let at = self.dice.place(self.nodes.len());
        let key = format!("k{}", self.dice.roll(self.keys));
        let value = self
            .dice
            .hits(70)
            .then(|| self.dice.roll(1_000_000).to_string());
        let wall_ms = self.wall_ms(at) + self.dice.roll(STEP_MS);
        let expires = self.dice.hits(15).then(|| wall_ms + self.dice.roll(8_000));
        let is_large = self.large > 0 && self.dice.hits(self.large);
        let is_without_peers = self.without_peers > 0 && self.dice.hits(self.without_peers);
        let node = &mut self.nodes[at];
        let mut value = value.map(String::into_bytes);
        if let Some(value) = value.as_mut().filter(|_| is_large) {
            value.resize(LARGE, b'0');
        }
        let written = if is_without_peers {
            node.store
                .write_without_peers(&key, value, expires, wall_ms)
        } else {
            node.store.write(&key, value, expires, wall_ms)
        };
        let Some((bucket, record)) = written else {
            return;
        };
        self.writes
            .entry(record.id.clone())
            .or_default()
            .push(Write {
                record,
                kept: Kept::Surely,
            });
        // The machine gets no hint of one in five: another companion of the unit wrote it.
        if self.dice.hits(80) {
            node.inbox.push_back(Input::Written([bucket].into()));
        }
    }
}
