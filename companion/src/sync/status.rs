//! The status of sync: the state of each link, and records that were set aside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::RecordId;

use super::lag::Lag;
use super::machine::compare::Comparison;
use crate::metrics::ShownLink;
use crate::states::LinkState;

/// How long records set aside, strangers and namesakes are shown after they were last seen: a problem that is mended
/// is none any more.
const TOLD_MS: u64 = 600_000;
/// Most records set aside, and most strangers, that are named; the metrics count all of them.
const ASIDE_MAX: usize = 64;
/// Stores of a peer that are remembered.
const STORES_MAX: usize = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LinkStatus {
    pub state: LinkState,
    /// Ops that the broker has confirmed for the unit: the sum of its cursors.
    pub confirmed: u64,
    /// When it was last heard, in ms since the Unix epoch; `None` if it was not since this companion leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// For how long it has sent nothing, in ms, if that is over three intervals of digests: it sends one each
    /// interval. Its companion is away, cannot send here, or has other members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
    /// The last comparison of digests with it.
    pub compared: Option<Comparison>,
    /// The replication lag of its changes.
    pub lag: Option<Lag>,
    /// How far its clock is ahead of ours, in ms.
    pub clock_skew_ms: Option<i64>,
    /// Whether the skew is over the limit.
    pub clock_skew_alarm: bool,
    /// Records and kinds of messages that are too large for its broker, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unsendable: BTreeMap<String, String>,
    /// The stores that were heard in its name, the latest last. At most 4.
    #[serde(skip)]
    stores: VecDeque<u64>,
    /// Of these the records, the kinds of messages, and the loads of reporters.
    #[serde(skip)]
    too_large: [BTreeMap<String, String>; 3],
}

impl LinkStatus {
    fn is_too_large(&mut self, part: TooLarge, named: BTreeMap<String, String>) -> bool {
        let [records, messages, loads] = &mut self.too_large;
        match part {
            TooLarge::Records => *records = named,
            TooLarge::Messages => *messages = named,
            TooLarge::Loads => *loads = named,
        }
        let all = self.too_large.iter().flatten();
        let all = all.map(|(name, why)| (name.clone(), why.clone())).collect();
        std::mem::replace(&mut self.unsendable, all) != self.unsendable
    }

    /// Whether its unit was removed from the group.
    pub(crate) fn is_removed(&self) -> bool {
        self.state == LinkState::PeerRemoved
    }

    /// The values that the metrics show.
    pub(crate) fn shown(&self) -> ShownLink {
        let compared = self.compared.as_ref();
        ShownLink {
            is_up: self.state.is_up(),
            confirmed: self.confirmed,
            missing_ops: compared.map(|compared| compared.missing),
            diverged_buckets: compared.map(|compared| compared.diverged.len()),
            clock_skew_ms: self.clock_skew_ms,
        }
    }
}

/// A record that is set aside: why, which alone is shown, and when it last came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Aside {
    pub why: String,
    #[serde(skip)]
    last_ms: u64,
}

/// A unit that sends to this one and is no member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stranger {
    /// How many of its messages were set aside.
    pub messages: u64,
    /// When the last one arrived, in ms since the Unix epoch.
    pub last_ms: u64,
}

/// The status of sync, as `/v1/units` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Status {
    /// Up, or why this unit is cut off from all others.
    pub link: LinkState,
    /// Up, or why this unit's own queue is not read.
    pub inbox: LinkState,
    pub peers: Vec<String>,
    pub links: BTreeMap<UnitId, LinkStatus>,
    /// Ops in the outbox, which not all peers have confirmed.
    pub outbox: u64,
    /// Most ops that the outbox may hold.
    pub outbox_max: u64,
    /// Estimated bytes of the ops in the outbox.
    pub outbox_bytes: u64,
    /// Records changed by repairs since the process started.
    pub repaired_records: u64,
    /// Records set aside, by unit and name, with the reason. At most 64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_aside: BTreeMap<String, Aside>,
    /// Units that send to this one and are no members. At most 64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub strangers: BTreeMap<UnitId, Stranger>,
    /// Units in whose name two stores speak, and when that was last seen, in ms since the Unix epoch: two units of
    /// one name, or two groups at one broker.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namesakes: BTreeMap<UnitId, u64>,
}

impl Status {
    pub(super) fn begin(&mut self, peers: &[UnitId], removed: &BTreeSet<UnitId>, out: bool) {
        self.inbox = LinkState::NotConnected;
        self.links.retain(|unit, _| peers.contains(unit));
        let is_member = |unit: &UnitId| peers.contains(unit) && !removed.contains(unit);
        self.strangers.retain(|unit, _| !is_member(unit));
        for peer in peers {
            let state = if removed.contains(peer) {
                LinkState::PeerRemoved
            } else {
                LinkState::NotConnected
            };
            // The earlier state says nothing about now; counts stay, so that no rate has a step.
            let before = self.links.remove(peer).unwrap_or_default();
            let link = LinkStatus {
                state,
                confirmed: before.confirmed,
                stores: before.stores,
                ..LinkStatus::default()
            };
            self.links.insert(peer.clone(), link);
        }
        if out {
            self.inbox = LinkState::Removed;
        }
        self.judge();
    }

    /// Another companion leads, or this one does not know the leader.
    pub(super) fn end(&mut self) {
        self.link = LinkState::Elsewhere;
        self.inbox = LinkState::Elsewhere;
        for link in self.links.values_mut() {
            link.state = LinkState::Elsewhere;
            link.silent_ms = None;
        }
    }

    /// A message of this unit arrived.
    pub(super) fn heard(&mut self, unit: &UnitId, now_ms: u64) {
        if let Some(link) = self.links.get_mut(unit) {
            link.heard_ms = Some(now_ms);
            link.silent_ms = None;
        }
    }

    /// A store spoke in the name of this unit.
    pub(super) fn store_heard(&mut self, unit: &UnitId, store: u64) {
        if let Some(link) = self.links.get_mut(unit) {
            link.stores.retain(|heard| *heard != store);
            link.stores.push_back(store);
            if link.stores.len() > STORES_MAX {
                link.stores.pop_front();
            }
        }
    }

    /// The stores that were heard in the name of this unit.
    pub(crate) fn stores(&self, unit: &UnitId) -> BTreeSet<u64> {
        let link = self.links.get(unit);
        link.map(|link| link.stores.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Notes how long each peer is silent, and forgets notices that were not seen again.
    pub(super) fn age(&mut self, silent_ms: impl Fn(&UnitId) -> Option<u64>, now_ms: u64) {
        for (unit, link) in &mut self.links {
            let is_removed = link.is_removed();
            link.silent_ms = silent_ms(unit).filter(|_| !is_removed);
        }
        let is_told = |seen_ms: u64| now_ms.saturating_sub(seen_ms) < TOLD_MS;
        self.strangers
            .retain(|_, stranger| is_told(stranger.last_ms));
        self.namesakes.retain(|_, last_ms| is_told(*last_ms));
        self.set_aside.retain(|_, aside| is_told(aside.last_ms));
    }

    pub(super) fn link_is(&mut self, unit: &UnitId, state: LinkState) -> bool {
        let link = self.links.entry(unit.clone()).or_default();
        let is_new = link.state != state;
        link.state = state;
        self.judge();
        is_new
    }

    pub(super) fn inbox_is(&mut self, state: LinkState) -> bool {
        let is_new = self.inbox != state;
        self.inbox = state;
        self.judge();
        is_new
    }

    /// This unit is cut off only if no peer can be reached, or its own queue is not read; a single
    /// peer out of reach does not count.
    fn judge(&mut self) {
        let mut members = self.links.values().filter(|link| !link.is_removed());
        let first = members.clone().find(|link| !link.state.is_up());
        let is_any_up = members.any(|link| link.state.is_up());
        self.link = match first {
            _ if !self.inbox.is_up() => self.inbox.clone(),
            Some(link) if !is_any_up => link.state.clone(),
            _ => LinkState::Up,
        };
    }

    /// Returns whether the record is new and was added; it is not while the table is full.
    pub(super) fn set_aside(
        &mut self,
        from: &UnitId,
        record: &str,
        why: &str,
        now_ms: u64,
    ) -> bool {
        let name = format!("{from}: {record}");
        let is_new = !self.set_aside.contains_key(&name);
        if is_new && self.set_aside.len() >= ASIDE_MAX {
            return false;
        }
        let aside = self.set_aside.entry(name).or_insert_with(|| Aside {
            why: why.to_owned(),
            last_ms: 0,
        });
        aside.last_ms = now_ms;
        is_new
    }

    /// Counts a message of a stranger; returns whether the unit is new and was added.
    pub(super) fn stranger(&mut self, unit: &UnitId, now_ms: u64) -> bool {
        let is_new = !self.strangers.contains_key(unit);
        if is_new && self.strangers.len() >= ASIDE_MAX {
            return false;
        }
        let stranger = self.strangers.entry(unit.clone()).or_default();
        stranger.messages = stranger.messages.saturating_add(1);
        stranger.last_ms = now_ms;
        is_new
    }

    /// Whether it is new.
    pub(super) fn namesake(&mut self, unit: &UnitId, now_ms: u64) -> bool {
        self.namesakes.insert(unit.clone(), now_ms).is_none()
    }

    /// Whether this is named as too large for some unit's broker.
    pub(super) fn is_unsendable(&self, name: &str) -> bool {
        let mut links = self.links.values();
        links.any(|link| link.unsendable.contains_key(name))
    }

    /// Names the loads of reporters that were cut to fit into a message; returns whether they are others than before.
    pub(super) fn loads_cut(&mut self, mut cut: BTreeMap<String, String>) -> bool {
        while cut.len() > ASIDE_MAX {
            cut.pop_last();
        }
        let mut is_new = false;
        for link in self.links.values_mut().filter(|link| !link.is_removed()) {
            is_new |= link.is_too_large(TooLarge::Loads, cut.clone());
        }
        is_new
    }

    /// Names a kind of messages that is too large for a unit's broker, or no longer does.
    pub(super) fn oversized(&mut self, unit: &UnitId, kind: &str, sizes: Option<(usize, usize)>) {
        if let Some(link) = self.links.get_mut(unit) {
            let [_, messages, _] = &link.too_large;
            let mut messages = messages.clone();
            match sizes {
                Some((bytes, limit)) => messages.insert(kind.to_owned(), too_large(bytes, limit)),
                None => messages.remove(kind),
            };
            link.is_too_large(TooLarge::Messages, messages);
        }
    }

    pub(super) fn unsendable(
        &mut self,
        unit: &UnitId,
        limit: usize,
        records: &BTreeMap<RecordId, usize>,
    ) {
        if let Some(link) = self.links.get_mut(unit) {
            let named = records
                .iter()
                .map(|(id, bytes)| (id.to_string(), too_large(*bytes, limit)));
            link.is_too_large(TooLarge::Records, named.collect());
        }
    }

    pub(super) fn compared(&mut self, unit: &UnitId, comparison: Comparison) {
        if let Some(link) = self.links.get_mut(unit) {
            link.compared = Some(comparison);
        }
    }

    pub(super) fn skew(&mut self, unit: &UnitId, skew_ms: i64, is_over: bool) {
        if let Some(link) = self.links.get_mut(unit) {
            link.clock_skew_ms = Some(skew_ms);
            link.clock_skew_alarm = is_over;
        }
    }

    pub(super) fn confirmed(&mut self, confirmed: BTreeMap<UnitId, u64>) {
        for (unit, ops) in confirmed {
            if let Some(link) = self.links.get_mut(&unit) {
                link.confirmed = ops;
            }
        }
    }
}

/// What is too large.
#[derive(Debug, Clone, Copy)]
enum TooLarge {
    Records,
    Messages,
    /// Loads of reporters, of which a part is sent.
    Loads,
}

fn too_large(bytes: usize, limit: usize) -> String {
    format!("{bytes} bytes in a message, its broker takes {limit}")
}

#[cfg(test)]
mod tests;
