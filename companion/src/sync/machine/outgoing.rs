//! Outbox → messages → confirms → cursors. Each unit has a link of its own with a cursor of its own, so that
//! one that is slow or gone delays no other.
//!
//! Links that are in step share what is read: a batch is read once and published to each of them.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::{Body, Part};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Op, Position, RecordId};

use super::{Effect, Lasts, MessageId, Note, RETRY_MS, count};
use crate::store::{Backlog, Cursors, Waiting};

/// Messages of ops that a link has in flight.
pub const FLIGHTS_MAX: usize = 8;
/// Outboxes that are read at a time.
pub const READ_MAX: usize = 32;
/// Where a message of ops ends: it is closed by the op that passes this many bytes.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// What a message takes beside its ops, at most: names of units, numbers of its parts.
const MESSAGE_HEAD_BYTES: usize = 16 << 10;
/// Records that are too large for a broker and are named; more are counted.
const UNSENDABLE_MAX: usize = 64;
/// What an op takes beside its value, about.
const OP_BYTES: usize = 192;
/// The pause before a cursor is stored once more.
const STORE_AGAIN_MS: u64 = 5_000;
/// The longest pause of a link whose messages are not taken.
const PAUSE_MAX_MS: u64 = 10_000;

/// A message on its way to the broker.
#[derive(Debug)]
struct Flight {
    /// The last op of each bucket in it.
    through: Vec<(u8, Position)>,
    ops: u64,
    confirmed: bool,
}

/// What is on its way to one unit.
#[derive(Debug, Default)]
struct Link {
    is_up: bool,
    paused_until_ms: u64,
    pause_ms: u64,
    /// What the broker has.
    cursors: BTreeMap<u8, Position>,
    /// What was published, at or after the cursors.
    sent: BTreeMap<u8, Position>,
    /// Buckets that may have ops after what was sent.
    dirty: BTreeSet<u8>,
    /// The bucket that is next, so that busy ones do not starve the others.
    turn: u8,
    flights: BTreeMap<MessageId, Flight>,
    /// Cursors that are not stored yet.
    to_store: BTreeMap<u8, Position>,
    storing: Option<BTreeMap<u8, Position>>,
    store_at_ms: u64,
    /// When a cursor may be stored once more, since what is behind it did not leave.
    store_again_ms: BTreeMap<u8, u64>,
    /// The largest message that its broker takes, in bytes, once it said so.
    limit: Option<usize>,
    /// Records that are larger, by their size in a message.
    unsendable: BTreeMap<RecordId, usize>,
}

impl Link {
    fn can_send(&self, now_ms: u64) -> bool {
        self.is_up && self.paused_until_ms <= now_ms && self.flights.len() < FLIGHTS_MAX
    }

    /// Where this link's reading of a bucket goes on.
    fn after(&self, bucket: u8) -> Position {
        self.sent.get(&bucket).copied().unwrap_or_default()
    }

    /// What was not confirmed goes out again.
    fn begin_again(&mut self) {
        let flights = std::mem::take(&mut self.flights);
        let through = flights.values().flat_map(|flight| &flight.through);
        self.dirty.extend(through.map(|(bucket, _)| *bucket));
        self.sent.clone_from(&self.cursors);
    }

    /// The store went back to an older copy of itself: what the cursor counts were other ops.
    fn forget_cursor(&mut self, bucket: u8) {
        self.begin_again();
        self.cursors.remove(&bucket);
        self.sent.remove(&bucket);
        self.to_store.remove(&bucket);
        self.dirty.insert(bucket);
    }

    /// Nothing is behind the cursor, and the outbox is not empty: an older copy of the store may lack what was
    /// stored before. Now and then, since it may also be that another link is not so far.
    fn store_again(&mut self, bucket: u8, now_ms: u64) {
        let is_in_flight = |flight: &Flight| flight.through.iter().any(|(of, _)| *of == bucket);
        let Some(cursor) = self.cursors.get(&bucket).copied() else {
            return;
        };
        let at_ms = self.store_again_ms.get(&bucket).copied().unwrap_or(0);
        if at_ms > now_ms || self.flights.values().any(is_in_flight) {
            return;
        }
        self.store_again_ms.insert(bucket, now_ms + STORE_AGAIN_MS);
        self.to_store.entry(bucket).or_insert(cursor);
    }

    /// Buckets to read, in turn.
    fn wanted(&self) -> impl Iterator<Item = u8> + '_ {
        let (before, after) = (self.dirty.range(..self.turn), self.dirty.range(self.turn..));
        after.chain(before).copied()
    }
}

/// What is on its way out.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    links: BTreeMap<UnitId, Link>,
    outbox_max: Backlog,
    knows_cursors: bool,
    reading_cursors: bool,
    /// What is read, and for whom.
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

    /// The units that can be sent to.
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
        let members: Vec<UnitId> = self.links.keys().cloned().collect();
        for (unit, link) in &mut self.links {
            let is_due = link.storing.is_none() && link.store_at_ms <= now_ms;
            if is_due && !link.to_store.is_empty() {
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

    /// What was read becomes messages; `next` names each.
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
            let limit = self.limit(&units);
            if let Some(limit) = limit {
                let large = leave_out(&mut parts, limit);
                self.note_unsendable(&units, &parts, large, effects);
            }
            for parts in messages(parts, limit.unwrap_or(MESSAGE_BYTES)) {
                self.publish(&units, parts, next(), effects);
            }
        }
    }

    /// The largest message that a unit's broker takes.
    pub(super) fn limit_known(&mut self, unit: &UnitId, bytes: usize) {
        if let Some(link) = self.links.get_mut(unit) {
            link.limit = Some(bytes);
        }
    }

    /// The largest message that all of these take, if one of them has a bound.
    pub(super) fn limit(&self, units: &[UnitId]) -> Option<usize> {
        let links = units.iter().filter_map(|unit| self.links.get(unit));
        links.filter_map(|link| link.limit).min()
    }

    /// Names what can't be sent, until a later change of the same record is.
    fn note_unsendable(
        &mut self,
        units: &[UnitId],
        parts: &[Part],
        large: Vec<(RecordId, usize)>,
        effects: &mut Vec<Effect>,
    ) {
        for unit in units {
            let Some(link) = self.links.get_mut(unit) else {
                continue;
            };
            let before = link.unsendable.clone();
            if !before.is_empty() {
                for op in parts.iter().flat_map(|part| &part.ops) {
                    link.unsendable.remove(&op.record.id);
                }
            }
            for (id, bytes) in &large {
                if link.unsendable.len() < UNSENDABLE_MAX {
                    link.unsendable.insert(id.clone(), *bytes);
                }
            }
            if link.unsendable != before {
                let (now, limit) = (link.unsendable.clone(), link.limit.unwrap_or(0));
                effects.push(Effect::Unsendable(unit.clone(), limit, now));
            }
        }
        effects.push(Effect::Note(Note::Unsendable, count(large.len())));
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
        // A cursor passes nothing that is in doubt.
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
            return;
        }
        link.store_at_ms = now_ms + RETRY_MS;
        for (bucket, at) in stored {
            link.to_store.entry(bucket).or_insert(at);
        }
    }

    /// Ops that are confirmed or in doubt, by unit: how far each is, bucket by bucket.
    pub(super) fn sent(&self) -> BTreeMap<UnitId, u64> {
        let sum = |link: &Link| link.cursors.values().map(|cursor| cursor.sequence).sum();
        let links = self.links.iter();
        links
            .map(|(unit, link)| (unit.clone(), sum(link)))
            .collect()
    }
}

/// How many ops each outbox keeps, if they are over a bound: its share of nine tenths of what may be, of ops and
/// of bytes. One op stays to say that others are missing.
fn shortened(waiting: &BTreeMap<u8, Backlog>, max: Backlog) -> Option<Vec<(u8, u64)>> {
    let sum = |of: fn(&Backlog) -> u64| waiting.values().map(of).sum::<u64>();
    let (ops, bytes) = (sum(|it| it.ops), sum(|it| it.bytes));
    if ops <= max.ops && bytes <= max.bytes {
        return None;
    }
    let share = |of: u64, max: u64, all: u64| {
        let share = u128::from(of) * u128::from(max) * 9 / 10 / u128::from(all.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    let least = u64::from(max.ops > 0);
    let keep = waiting.iter().map(|(bucket, backlog)| {
        let by_ops = if ops > max.ops {
            share(backlog.ops, max.ops, ops)
        } else {
            backlog.ops
        };
        let by_bytes = if bytes > max.bytes {
            share(backlog.ops, max.bytes, bytes)
        } else {
            backlog.ops
        };
        (*bucket, by_ops.min(by_bytes).max(least))
    });
    Some(keep.collect())
}

/// What an op takes in a message; one of a broker with a bound is measured.
fn op_bytes(op: &Op) -> usize {
    let value = op.record.value.as_ref().map_or(0, |value| value.0.len());
    OP_BYTES + value
}

/// What it takes there exactly.
fn measured(op: &Op) -> usize {
    serde_json::to_vec(op).map_or(usize::MAX, |json| json.len())
}

/// Leaves out what no message under this limit can hold: its sequence is passed. Answers what it was.
fn leave_out(parts: &mut [Part], limit: usize) -> Vec<(RecordId, usize)> {
    let mut large = Vec::new();
    for part in parts {
        let passed = &mut part.passed;
        part.ops.retain(|op| {
            let bytes = measured(op).saturating_add(MESSAGE_HEAD_BYTES);
            if bytes > limit {
                passed.insert(op.sequence);
                large.push((op.record.id.clone(), bytes));
            }
            bytes <= limit
        });
    }
    large
}

/// Parts in messages of bounded size, in order. A part is cut where it is too large.
fn messages(parts: Vec<Part>, limit: usize) -> Vec<Vec<Part>> {
    let is_bound = limit != MESSAGE_BYTES;
    let limit =
        limit
            .min(MESSAGE_BYTES)
            .saturating_sub(if is_bound { MESSAGE_HEAD_BYTES } else { 0 });
    let size = |op: &Op| if is_bound { measured(op) } else { op_bytes(op) };
    let mut messages: Vec<Vec<Part>> = vec![Vec::new()];
    let mut bytes = 0;
    for part in parts {
        for part in cut(part, limit, size, is_bound) {
            let part_bytes: usize = part.ops.iter().map(size).sum();
            if bytes > 0 && bytes + part_bytes > limit {
                messages.push(Vec::new());
                bytes = 0;
            }
            bytes += part_bytes + 1;
            if let Some(last) = messages.last_mut() {
                last.push(part);
            }
        }
    }
    messages.retain(|parts| !parts.is_empty());
    messages
}

/// A part in pieces of this size, of which only the first may say that something is skipped before it.
fn cut(part: Part, limit: usize, size: impl Fn(&Op) -> usize, is_bound: bool) -> Vec<Part> {
    if !is_bound || part.ops.iter().map(&size).sum::<usize>() <= limit {
        return vec![part];
    }
    let (bucket, incarnation, mut skipped) = (part.bucket, part.incarnation, part.skipped);
    let (mut pieces, mut passed) = (Vec::new(), part.passed);
    let mut ops: Vec<Op> = Vec::new();
    let mut bytes = 0;
    let mut piece = |ops: Vec<Op>, passed: BTreeSet<u64>| {
        pieces.push(Part {
            bucket,
            incarnation,
            skipped: std::mem::take(&mut skipped),
            ops,
            passed,
        });
    };
    for op in part.ops {
        let op_bytes = size(&op);
        if bytes + op_bytes > limit && !ops.is_empty() {
            let rest = passed.split_off(&op.sequence);
            piece(
                std::mem::take(&mut ops),
                std::mem::replace(&mut passed, rest),
            );
            bytes = 0;
        }
        bytes += op_bytes;
        ops.push(op);
    }
    piece(ops, passed);
    pieces
}

#[cfg(test)]
mod tests {
    use unitring_protocol::record::{Record, Value};

    use super::*;

    #[test]
    fn an_outbox_is_bounded_in_ops_and_in_bytes() {
        let max = Backlog {
            ops: 100,
            bytes: 1_000,
        };
        let waiting = |ops, bytes| BTreeMap::from([(7, Backlog { ops, bytes })]);
        assert_eq!(shortened(&waiting(100, 1_000), max), None);
        assert_eq!(shortened(&waiting(200, 1_000), max), Some(vec![(7, 90)]));
        assert_eq!(shortened(&waiting(48, 4_000), max), Some(vec![(7, 10)]));
        // One stays, however large it is.
        assert_eq!(shortened(&waiting(1, 4_000), max), Some(vec![(7, 1)]));
        let nobody = Backlog::default();
        assert_eq!(shortened(&waiting(5, 5), nobody), Some(vec![(7, 0)]));
    }

    fn part(sizes: &[usize]) -> Part {
        let ops = (1..).zip(sizes).map(|(sequence, bytes)| Op {
            sequence,
            record: Record {
                id: RecordId {
                    dataset: "d".parse().unwrap(),
                    key: format!("k{sequence}").parse().unwrap(),
                },
                version: "1.0@a".parse().unwrap(),
                value: Some(Value(vec![0; *bytes])),
                expires_ms: None,
            },
            over: None,
        });
        Part {
            bucket: 1,
            incarnation: 5,
            skipped: true,
            ops: ops.collect(),
            passed: BTreeSet::new(),
        }
    }

    #[test]
    fn what_a_broker_does_not_take_is_passed_and_the_rest_fits_its_messages() {
        let limit = 200_000;
        let mut parts = [part(&[60_000, 900_000, 60_000, 60_000, 60_000])];
        let large = leave_out(&mut parts, limit);
        assert_eq!(large.len(), 1);
        assert_eq!(large[0].0.key.as_str(), "k2");
        assert_eq!(parts[0].passed, BTreeSet::from([2]));
        let sent = messages(parts.to_vec(), limit);
        let mut sequences = Vec::new();
        for (number, parts) in sent.iter().enumerate() {
            let bytes = serde_json::to_vec(parts).unwrap().len();
            assert!(bytes < limit, "{bytes}");
            for part in parts {
                assert_eq!(part.skipped, number == 0);
                sequences.extend(part.ops.iter().map(|op| op.sequence));
                sequences.extend(&part.passed);
            }
        }
        sequences.sort_unstable();
        assert_eq!(sequences, [1, 2, 3, 4, 5]);
    }
}
