//! The faults of a simulated run, and how often they occur.

use std::sync::Arc;

use super::super::Input;
use super::judge::Kept;
use super::store::{BUCKETS, Store};
use super::world::{STEP_MS, World, machine, unit};

/// In ms since the Unix epoch.
pub(super) const YEAR_2500: u64 = 16_725_225_600_000;
/// The pause between two cuts of a calm link, and how long each lasts.
const CALM_MS: u64 = 5_000;
const CUT_MS: u64 = 500;

/// The rates of the faults, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) lost: u8,
    pub(super) repeated: u8,
    /// Repeated when everything else is over.
    pub(super) stale: u8,
    pub(super) reordered: u8,
    pub(super) unconfirmed: u8,
    pub(super) refused: u8,
    pub(super) store_away: u8,
    pub(super) late: u8,
    pub(super) link_down: u8,
    pub(super) inbox_down: u8,
    pub(super) crash: u8,
    /// Per mille.
    pub(super) disk_lost: u8,
    /// Per mille.
    pub(super) clock_jumps: u8,
    /// Per mille: the store goes back to an older copy of itself.
    pub(super) gone_back: u8,
    /// Per mille: the same of one bucket, as of a shard of a cluster.
    pub(super) shard_back: u8,
    /// Per mille: someone lies, in whatever name.
    pub(super) hostile: u8,
    /// Per mille: a value is lost, and its mark is not.
    pub(super) values_lost: u8,
    /// Per mille: a digest is wrong.
    pub(super) wrong_digest: u8,
    /// Per mille: a unit is removed from the group, and comes back empty.
    pub(super) leaving: u8,
    /// Nothing goes wrong twice in a row, and cuts are short: no repair is needed.
    pub(super) is_calm: bool,
}

impl World {
    pub(super) fn trouble(&mut self, at: usize, faults: Faults) {
        let loses_disk = self.dice.roll(1_000) < u64::from(faults.disk_lost);
        if self.dice.roll(1_000) < u64::from(faults.clock_jumps) {
            self.nodes[at].skew_ms += self.dice.roll(20_000).cast_signed() - 10_000;
        }
        if loses_disk || self.dice.hits(faults.crash) {
            self.crash(at);
        }
        if loses_disk {
            self.lose_disk(at, None);
        }
        if faults.gone_back > 0 || faults.shard_back > 0 {
            self.go_back(at, faults);
        }
        if faults.hostile > 0 && self.dice.roll(1_000) < u64::from(faults.hostile) {
            self.lie(at);
        }
        if faults.values_lost > 0 && self.dice.roll(1_000) < u64::from(faults.values_lost) {
            self.lose_value(at);
        }
        if faults.wrong_digest > 0 && self.dice.roll(1_000) < u64::from(faults.wrong_digest) {
            let turn = self.dice.place(1_000);
            self.nodes[at].store.spoil_digest(turn);
        }
        self.links(at, faults);
        let node = &mut self.nodes[at];
        if !node.reads {
            node.reads = true;
            // Its inbox declares it again.
            node.has_queue = true;
        } else if self.dice.hits(faults.inbox_down) {
            self.nodes[at].reads = false;
            self.nodes[at].inbox.push_back(Input::InboxDown);
            self.requeue(at);
        }
    }

    /// Cuts links, and connects them again.
    fn links(&mut self, at: usize, faults: Faults) {
        let now_ms = self.now_ms;
        let units = Arc::clone(&self.units);
        let me = self.nodes[at].id.clone();
        for peer in units.iter().filter(|peer| **peer != me) {
            if self.dice.hits(faults.link_down) {
                // Some cuts are short, some outlast the retention of tombstones.
                let until_ms = now_ms + self.dice.roll(8_000);
                let node = &mut self.nodes[at];
                let before_ms = node.cut_ms.get(peer).copied().unwrap_or(0);
                if !faults.is_calm {
                    node.cut_ms.insert(peer.clone(), until_ms);
                } else if before_ms + CALM_MS < now_ms {
                    node.cut_ms.insert(peer.clone(), now_ms + CUT_MS);
                }
            }
            let node = &mut self.nodes[at];
            let is_cut = node.cut_ms.get(peer).is_some_and(|until| now_ms < *until);
            if is_cut && node.up.remove(peer) {
                node.inbox.push_back(Input::LinkDown(peer.clone()));
            } else if !is_cut && !node.up.contains(peer) {
                node.up.insert(peer.clone());
                node.inbox.push_back(Input::LinkUp(peer.clone()));
            }
        }
    }

    pub(super) fn crash(&mut self, at: usize) {
        let rules = self.rules;
        let node = &mut self.nodes[at];
        node.machine = machine(node.number, &node.members, rules);
        node.inbox.clear();
        let identity = node.store.identity;
        node.inbox.push_back(Input::Identity(identity));
        node.later.clear();
        node.up.clear();
        node.reads = false;
        self.requeue(at);
    }

    /// Keeps a copy of the store now and then, and goes back to the oldest.
    fn go_back(&mut self, at: usize, faults: Faults) {
        let node = &mut self.nodes[at];
        if self.now_ms.is_multiple_of(500) {
            node.copies.push_back(node.store.clone());
            if node.copies.len() > 4 {
                node.copies.pop_front();
            }
        }
        if self.dice.roll(1_000) < u64::from(faults.gone_back)
            && let Some(copy) = self.nodes[at].copies.pop_front()
        {
            self.nodes[at].copies.clear();
            self.lose_disk(at, Some(copy));
        }
        if faults.shard_back > 0
            && self.dice.roll(1_000) < u64::from(faults.shard_back)
            && let Some(copy) = self.nodes[at].copies.front().cloned()
        {
            let number = u8::try_from(self.dice.roll(u64::from(BUCKETS))).unwrap();
            let store = self.nodes[at].store.with_bucket_of(&copy, number);
            self.lose_disk(at, Some(store));
        }
    }

    fn lose_value(&mut self, at: usize) {
        let turn = self.dice.place(1_000);
        let Some(version) = self.nodes[at].store.lose_value(turn) else {
            return;
        };
        // If no other unit has it, it is gone; a message under way may still bring it.
        let is_elsewhere = self.nodes.iter().any(|node| node.store.has_value(&version));
        for write in self.writes.values_mut().flatten() {
            if write.record.version == version && !is_elsewhere {
                write.kept = write.kept.min(Kept::Perhaps);
            }
        }
        self.lost_values
            .insert((self.nodes[at].id.clone(), version));
    }

    /// The store is empty, or an older copy of itself.
    pub(super) fn lose_disk(&mut self, at: usize, copy: Option<Store>) {
        let id = unit(at);
        let queued = self.queued();
        let others = || self.nodes.iter().filter(|node| node.id != id);
        for write in self.writes.values_mut().flatten() {
            // The last copy is gone. If another value took its place, that does no harm here.
            let version = &write.record.version;
            let is_kept = copy.as_ref().is_some_and(|copy| copy.has(version));
            if !is_kept && !others().any(|node| node.store.has(version)) {
                let kept = match copy {
                    // The unit goes on, and an answer of its store that is under way may still bring it. Or another
                    // change takes its number: then the order decides whether it is applied.
                    Some(_) => Kept::Perhaps,
                    None => queued.get(version).copied().unwrap_or(Kept::No),
                };
                // The others set aside what a removed unit sends.
                let kept = match self.absent {
                    Some(_) => kept.min(Kept::Perhaps),
                    None => kept,
                };
                write.kept = write.kept.min(kept);
            }
        }
        // Otherwise it might make a version twice, which docs/sync.md does not promise to mend.
        let behind_ms = self.nodes[at].store.clock_ms() + STEP_MS;
        let behind_ms = behind_ms.saturating_sub(self.wall_ms(at));
        let node = &mut self.nodes[at];
        node.skew_ms += behind_ms.cast_signed();
        let (identity, room) = (node.store.identity + 100, node.store.room);
        let fresh = || Store {
            identity,
            room,
            ..Store::new(id, self.broken)
        };
        node.went_back |= copy.is_some();
        node.store = copy.unwrap_or_else(fresh);
        let identity = node.store.identity;
        node.inbox.push_back(Input::Identity(identity));
        node.positions.clear();
    }

    /// Sets the members of the group, as all of them learn at once: they start their sync again.
    pub(super) fn members(&mut self, members: &[usize]) {
        for at in members {
            self.nodes[*at].members = members.to_vec();
            self.crash(*at);
        }
    }
}
