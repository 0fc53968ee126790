//! Outbox → messages → confirms → cursors. Each peer has a link with its own cursors, so a slow or
//! unreachable peer delays no other.
//!
//! Links at the same position share a read: a batch is read once and published to each of them.

mod limits;
mod link;
mod parts;
mod shorten;
pub(super) mod superseded;

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::{Body, Part};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Position;

use super::{Effect, Lasts, MessageId, Note, RETRY_MS, count};
use crate::store::{Backlog, Cursors, Waiting};
use link::{Flight, Link};
use parts::{leave_out, messages};
use shorten::shortened;

/// Most outboxes that are read at once.
pub(crate) const READ_MAX: usize = 32;
/// The shortest pause between two stores of a link's cursors. Each store costs a script per bucket, so
/// under load one store covers many messages. After a crash the ops of one pause are sent again.
const STORE_EVERY_MS: u64 = 200;
/// The longest back-off of a link whose messages are not confirmed.
const PAUSE_MAX_MS: u64 = 10_000;

/// The ops and messages on their way out.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    links: BTreeMap<UnitId, Link>,
    outbox_max: Backlog,
    knows_cursors: bool,
    reading_cursors: bool,
    /// The reads under way, and the links that they are for.
    reading: Option<BTreeMap<(u8, Position), Vec<UnitId>>>,
    read_at_ms: u64,
    shortening: bool,
}

impl Outgoing {
    pub(super) fn new(peers: &BTreeSet<UnitId>, outbox_max: Backlog) -> Self {
        let links = peers.iter().map(|peer| (peer.clone(), Link::default()));
        Self {
            links: links.collect(),
            outbox_max,
            ..Self::default()
        }
    }

    /// The units whose links are up.
    pub(super) fn up(&self) -> impl Iterator<Item = &UnitId> {
        let up = self.links.iter().filter(|(_, link)| link.is_up);
        up.map(|(unit, _)| unit)
    }

    pub(super) fn is_up(&self, unit: &UnitId) -> bool {
        self.links.get(unit).is_some_and(|link| link.is_up)
    }

    pub(super) fn link_up(&mut self, unit: &UnitId) {
        if let Some(link) = self.links.get_mut(unit) {
            link.is_up = true;
        }
    }

    pub(super) fn link_down(&mut self, unit: &UnitId) {
        if let Some(link) = self.links.get_mut(unit) {
            link.is_up = false;
            link.begin_again();
        }
    }

    pub(super) fn dirty(&mut self, buckets: &BTreeSet<u8>) {
        for link in self.links.values_mut() {
            link.dirty.extend(buckets);
        }
    }

    pub(super) fn counted(&mut self, waiting: &BTreeMap<u8, Backlog>, effects: &mut Vec<Effect>) {
        self.dirty(&waiting.keys().copied().collect());
        let is_alone = self.links.is_empty();
        let max = if is_alone {
            Backlog::default()
        } else {
            self.outbox_max
        };
        if !self.shortening
            && let Some(keep) = shortened(waiting, max)
        {
            self.shortening = true;
            effects.push(Effect::Shorten(keep));
        }
    }

    pub(super) fn shortened(&mut self) {
        self.shortening = false;
    }

    pub(super) fn cursors(&mut self, cursors: Option<Cursors>, now_ms: u64) {
        self.reading_cursors = false;
        let Some(mut cursors) = cursors else {
            self.read_at_ms = now_ms + RETRY_MS;
            return;
        };
        self.knows_cursors = true;
        for (unit, link) in &mut self.links {
            for (bucket, cursor) in cursors.remove(unit).unwrap_or_default() {
                let known = link.cursors.entry(bucket).or_default();
                *known = cursor.max(*known);
                let sent = link.sent.entry(bucket).or_default();
                *sent = cursor.max(*sent);
            }
        }
    }

    pub(super) fn go_on(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if !self.knows_cursors {
            if !self.reading_cursors && self.read_at_ms <= now_ms {
                self.reading_cursors = true;
                effects.push(Effect::ReadCursors);
            }
            return;
        }
        if self.reading.is_none() && self.read_at_ms <= now_ms {
            self.read_next(now_ms, effects);
        }
        let is_due = |link: &Link| {
            let may_store = link.storing.is_none() && link.store_at_ms <= now_ms;
            may_store && !link.to_store.is_empty()
        };
        if !self.links.values().any(is_due) {
            return;
        }
        let members: Vec<UnitId> = self.links.keys().cloned().collect();
        for (unit, link) in &mut self.links {
            if is_due(link) {
                let cursors = std::mem::take(&mut link.to_store);
                let stored = cursors.iter().map(|(bucket, at)| (*bucket, *at)).collect();
                effects.push(Effect::Confirm(unit.clone(), stored, members.clone()));
                link.storing = Some(cursors);
            }
        }
    }

    fn read_next(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let mut asked: BTreeMap<(u8, Position), Vec<UnitId>> = BTreeMap::new();
        for (unit, link) in &mut self.links {
            if !link.can_send(now_ms) {
                continue;
            }
            let wanted: Vec<u8> = link.wanted().take(READ_MAX).collect();
            for bucket in wanted {
                let pair = (bucket, link.after(bucket));
                if asked.len() >= READ_MAX && !asked.contains_key(&pair) {
                    break;
                }
                asked.entry(pair).or_default().push(unit.clone());
                link.dirty.remove(&bucket);
                link.turn = bucket.wrapping_add(1);
            }
        }
        if !asked.is_empty() {
            effects.push(Effect::ReadOutboxes(asked.keys().copied().collect()));
            self.reading = Some(asked);
        }
    }

    /// Turns ops that were read into messages; `next` names each.
    pub(super) fn read(
        &mut self,
        read: Option<Vec<Waiting>>,
        now_ms: u64,
        mut next: impl FnMut() -> MessageId,
        effects: &mut Vec<Effect>,
    ) {
        let asked = self.reading.take().unwrap_or_default();
        let Some(read) = read else {
            self.read_at_ms = now_ms + RETRY_MS;
            for ((bucket, _), units) in asked {
                self.want_again(bucket, &units);
            }
            return;
        };
        let mut groups: BTreeMap<Vec<UnitId>, Vec<Part>> = BTreeMap::new();
        for (((bucket, after), mut units), waiting) in asked.into_iter().zip(read) {
            let in_step = |unit: &UnitId| {
                let link = self.links.get(unit);
                link.is_some_and(|link| link.can_send(now_ms) && link.after(bucket) == after)
            };
            let (ready, others): (Vec<UnitId>, Vec<UnitId>) = units.drain(..).partition(in_step);
            self.want_again(bucket, &others);
            let is_same = after.incarnation == waiting.incarnation;
            if is_same && waiting.last < after.sequence {
                effects.push(Effect::Note(Note::WentBack, 1));
                for link in ready.iter().chain(&others) {
                    if let Some(link) = self.links.get_mut(link) {
                        link.forget_cursor(bucket);
                    }
                }
                continue;
            }
            let first = waiting.ops.first().map(|op| op.sequence);
            let first = first.into_iter().chain(waiting.passed.first().copied());
            let Some(first) = first.min() else {
                for unit in &ready {
                    if let Some(link) = self.links.get_mut(unit) {
                        link.store_again(bucket, now_ms);
                    }
                }
                continue;
            };
            if waiting.more {
                self.want_again(bucket, &ready);
            }
            let before = if is_same { after.sequence } else { 0 };
            let part = Part {
                bucket,
                incarnation: waiting.incarnation,
                skipped: first > before + 1,
                ops: waiting.ops,
                passed: waiting.passed,
            };
            groups.entry(ready).or_default().push(part);
        }
        for (units, mut parts) in groups {
            let form = self.form(&units);
            if let Some(limit) = form.limit {
                let large = leave_out(&mut parts, limit);
                let sent = parts.iter().flat_map(|part| &part.ops);
                let sent = sent.map(|op| &op.record.id);
                self.note_unsendable(&units, sent, &large.records, effects);
                effects.push(Effect::Note(Note::Unsendable, count(large.count)));
            }
            let messages = messages(parts, form);
            effects.push(Effect::Note(Note::Superseded, count(messages.superseded)));
            for parts in messages.messages {
                self.publish(&units, parts, next(), effects);
            }
        }
    }

    fn want_again(&mut self, bucket: u8, units: &[UnitId]) {
        for unit in units {
            if let Some(link) = self.links.get_mut(unit) {
                link.dirty.insert(bucket);
            }
        }
    }

    fn publish(
        &mut self,
        units: &[UnitId],
        parts: Vec<Part>,
        id: MessageId,
        effects: &mut Vec<Effect>,
    ) {
        let last = |part: &Part| {
            let last = part.ops.last().map(|op| op.sequence);
            let position = Position {
                incarnation: part.incarnation,
                sequence: last.max(part.passed.last().copied())?,
            };
            Some((part.bucket, position))
        };
        let through: Vec<(u8, Position)> = parts.iter().filter_map(last).collect();
        let ops = parts.iter().map(|part| count(part.ops.len())).sum();
        for unit in units {
            if let Some(link) = self.links.get_mut(unit) {
                link.sent.extend(through.iter().copied());
                let flight = Flight {
                    through: through.clone(),
                    ops,
                    confirmed: false,
                };
                link.flights.insert(id, flight);
            }
        }
        if !units.is_empty() {
            effects.push(Effect::Publish {
                id,
                to: units.to_vec(),
                lasts: Lasts::UntilRead,
                body: Body::Ops { parts },
            });
        }
    }

    pub(super) fn published(
        &mut self,
        unit: &UnitId,
        id: MessageId,
        confirmed: bool,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(link) = self.links.get_mut(unit) else {
            return;
        };
        let Some(flight) = link.flights.get_mut(&id) else {
            return;
        };
        if !confirmed {
            link.begin_again();
            link.pause_ms = (link.pause_ms * 2).clamp(RETRY_MS, PAUSE_MAX_MS);
            link.paused_until_ms = now_ms + link.pause_ms;
            return;
        }
        link.pause_ms = 0;
        flight.confirmed = true;
        // Cursors advance in the order of publishing, never past a message without a confirm.
        while let Some(first) = link.flights.first_entry() {
            if !first.get().confirmed {
                break;
            }
            let flight = first.remove();
            effects.push(Effect::Note(Note::OpsPublished, flight.ops));
            link.cursors.extend(flight.through.iter().copied());
            link.to_store.extend(flight.through);
        }
    }

    pub(super) fn stored(&mut self, unit: &UnitId, done: bool, now_ms: u64) {
        let Some(link) = self.links.get_mut(unit) else {
            return;
        };
        let Some(stored) = link.storing.take() else {
            return;
        };
        if done {
            link.store_at_ms = now_ms + STORE_EVERY_MS;
            return;
        }
        link.store_at_ms = now_ms + RETRY_MS;
        for (bucket, at) in stored {
            link.to_store.entry(bucket).or_insert(at);
        }
    }

    /// Confirmed ops by unit: the sum of its cursors over all buckets.
    pub(super) fn sent(&self) -> BTreeMap<UnitId, u64> {
        let sum = |link: &Link| link.cursors.values().map(|cursor| cursor.sequence).sum();
        let links = self.links.iter();
        links
            .map(|(unit, link)| (unit.clone(), sum(link)))
            .collect()
    }
}
