//! Units, their brokers, and the faults between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::envelope::{Body, Envelope};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, RecordId, Version};

use super::super::{Effect, Input, Lasts, Machine, Moment, Note, Rules, Tag, message};
use super::Dice;
use super::faults::Faults;
use super::judge::{Kept, Write};
use super::store::{Broken, Store};
use crate::replica::epoch;
use crate::store::{Backlog, Batch};

pub(super) const STEP_MS: u64 = 50;
/// The largest message of a broker with a limit, in bytes, and the size of a value that no such message can hold.
pub(super) const LIMIT: usize = 20_000;
pub(super) const LARGE: usize = 6_000;
/// How late a copy may come: long after tombstones were forgotten.
pub(super) const STALE_MS: u64 = 20_000;
pub(super) const RULES: Rules = Rules {
    digest_interval_ms: 1_000,
    keep_ms: 6_000,
    outbox_max: Backlog {
        ops: 60,
        bytes: 1 << 20,
    },
    repair_rate: 1_000,
};

/// A unit with its store and its queue at a broker.
pub(super) struct Node {
    pub(super) id: UnitId,
    pub(super) machine: Machine,
    /// Itself and its peers.
    pub(super) members: Vec<usize>,
    pub(super) store: Store,
    /// Older copies of it, and when they were made.
    pub(super) copies: VecDeque<Store>,
    pub(super) queue: VecDeque<(Envelope, Option<u64>)>,
    pub(super) unacked: BTreeMap<Tag, Envelope>,
    /// Copies that a broker seemed to have lost, and when it delivers them.
    stale: Vec<(u64, Envelope)>,
    pub(super) inbox: VecDeque<Input>,
    /// Answers that take their time.
    pub(super) later: Vec<(u64, Input)>,
    /// Until when a link is cut.
    pub(super) cut_ms: BTreeMap<UnitId, u64>,
    pub(super) up: BTreeSet<UnitId>,
    pub(super) reads: bool,
    /// The error of its clock.
    pub(super) skew_ms: i64,
    pub(super) positions: BTreeMap<u8, BTreeMap<UnitId, Position>>,
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) units: Arc<[UnitId]>,
    pub(super) dice: Dice,
    pub(super) now_ms: u64,
    last_tag: Tag,
    pub(super) notes: BTreeMap<Note, u64>,
    pub(super) skews: BTreeMap<(UnitId, UnitId), i64>,
    pub(super) writes: BTreeMap<RecordId, Vec<Write>>,
    /// Versions that another store had.
    pub(super) spread: BTreeSet<Version>,
    /// How many keys are written.
    pub(super) keys: u64,
    /// Records that were set aside, and the unit of each.
    pub(super) aside: BTreeSet<(UnitId, RecordId)>,
    /// Units in whose name two stores speak, as some unit found out.
    pub(super) namesakes: BTreeSet<UnitId>,
    /// Values that were lost: of which unit, and of which version.
    pub(super) lost_values: BTreeSet<(UnitId, Version)>,
    /// Percentage of writes that come from a companion that is configured without peers.
    pub(super) without_peers: u8,
    /// Percentage of writes that are too large for the brokers, which have a limit then.
    pub(super) large: u8,
    pub(super) broken: Broken,
}

pub(super) fn unit(number: usize) -> UnitId {
    format!("u{number}").parse().unwrap()
}

impl World {
    pub(super) fn new(seed: u64, units: usize, broken: Broken) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            units: (0..units).map(unit).collect(),
            dice: Dice::new(seed),
            now_ms: 1_000_000,
            last_tag: 0,
            notes: BTreeMap::new(),
            skews: BTreeMap::new(),
            writes: BTreeMap::new(),
            spread: BTreeSet::new(),
            keys: 12,
            aside: BTreeSet::new(),
            namesakes: BTreeSet::new(),
            lost_values: BTreeSet::new(),
            without_peers: 0,
            large: 0,
            broken,
        };
        for number in 0..units {
            let skew_ms = world.dice.roll(4_000).cast_signed() - 2_000;
            let members: Vec<usize> = (0..units).collect();
            world
                .nodes
                .push(Node::new(number, members, skew_ms, broken));
        }
        world
    }

    pub(super) fn wall_ms(&self, at: usize) -> u64 {
        self.now_ms.saturating_add_signed(self.nodes[at].skew_ms)
    }

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

    pub(super) fn step(&mut self, faults: Faults) {
        self.now_ms += STEP_MS;
        for at in 0..self.nodes.len() {
            self.trouble(at, faults);
            self.deliver(at, faults);
            let now_ms = self.now_ms;
            let node = &mut self.nodes[at];
            let (due, later) = node
                .later
                .drain(..)
                .partition(|(due_ms, _)| *due_ms <= now_ms);
            node.later = later;
            let due: Vec<(u64, Input)> = due;
            node.inbox.extend(due.into_iter().map(|(_, input)| input));
            node.inbox.push_back(Input::Tick);
            while let Some(input) = self.nodes[at].inbox.pop_front() {
                let moment = Moment {
                    now_ms,
                    wall_ms: self.wall_ms(at),
                };
                let effects = self.nodes[at].machine.handle(input, moment);
                for effect in effects {
                    self.perform(at, effect, faults);
                }
            }
        }
    }

    pub(super) fn requeue(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        for (_, envelope) in std::mem::take(&mut node.unacked).into_iter().rev() {
            node.queue.push_front((envelope, None));
        }
    }

    fn deliver(&mut self, at: usize, faults: Faults) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[at];
        let due = node.stale.extract_if(.., |(due_ms, _)| *due_ms <= now_ms);
        node.queue.extend(due.map(|(_, envelope)| (envelope, None)));
        while self.nodes[at].reads && self.nodes[at].unacked.len() < 8 {
            let waiting = self.nodes[at].queue.len();
            let place = match self.dice.hits(faults.reordered) {
                true => self.dice.place(waiting),
                false => 0,
            };
            let Some((envelope, until_ms)) = self.nodes[at].queue.remove(place) else {
                return;
            };
            if until_ms.is_some_and(|until_ms| until_ms < now_ms) {
                continue;
            }
            if self.dice.hits(faults.repeated) {
                self.nodes[at].queue.push_back((envelope.clone(), until_ms));
            }
            if until_ms.is_none() && self.dice.hits(faults.stale) {
                let due_ms = now_ms + self.dice.roll(STALE_MS);
                self.nodes[at].stale.push((due_ms, envelope.clone()));
            }
            self.last_tag += 1;
            let tag = self.last_tag;
            let node = &mut self.nodes[at];
            node.unacked.insert(tag, envelope.clone());
            node.inbox.push_back(Input::Delivered(tag, envelope));
        }
    }

    fn perform(&mut self, at: usize, effect: Effect, faults: Faults) {
        let is_away = self.dice.hits(faults.store_away);
        let wall_ms = self.wall_ms(at);
        let present = |input| (!is_away).then_some(input);
        let id = self.nodes[at].id.clone();
        let store = &mut self.nodes[at].store;
        let answer = match effect {
            Effect::Count => Input::Counted(present(()).map(|()| store.waiting())),
            Effect::ReadCursors => Input::CursorsRead(present(()).map(|()| store.cursors())),
            Effect::ReadOutboxes(asked) => {
                Input::OutboxesRead(present(()).map(|()| store.outboxes(&asked)))
            }
            Effect::Confirm(unit, cursors, members) => {
                if !is_away {
                    store.confirm(&unit, &cursors, &members);
                }
                Input::Confirmed(unit, !is_away)
            }
            Effect::Shorten(keep) => {
                present(()).into_iter().for_each(|()| store.shorten(&keep));
                Input::Shortened
            }
            Effect::Apply(parts) => {
                let applied = present(()).and_then(|()| store.apply(&parts, wall_ms));
                if applied.is_some() {
                    self.spread.extend(versions(&parts));
                }
                Input::Applied(applied)
            }
            Effect::ReadStates(purpose) => {
                let states = present(()).map(|()| (epoch(wall_ms), store.states(wall_ms)));
                Input::States(purpose, states)
            }
            Effect::ReadPage(bucket, page) => {
                Input::PageRead(present(()).map(|()| store.page(bucket, page)))
            }
            Effect::Collect(bucket, before_ms, fence) => {
                return store.collect(bucket, before_ms, &fence);
            }
            Effect::Publish {
                id: message,
                to,
                lasts,
                body,
            } => {
                for peer in to {
                    let taken = self.publish(&id, &peer, lasts, &body, faults);
                    self.answer(at, Input::Published(peer, message, taken), faults);
                }
                return;
            }
            Effect::Ack(tag) | Effect::SetAside(tag, _) => {
                self.nodes[at].unacked.remove(&tag);
                return;
            }
            Effect::Note(note, count) => {
                *self.notes.entry(note).or_default() += count;
                return;
            }
            Effect::Skew(unit, skew_ms) => {
                self.skews.insert((id, unit), skew_ms);
                return;
            }
            Effect::Unsendable(..) | Effect::Oversized(..) => return,
            Effect::Recount(bucket) => return store.recount(bucket, wall_ms),
            Effect::Namesake(unit) => {
                self.namesakes.insert(unit);
                return;
            }
            Effect::Aside(unit, record, _) => {
                self.aside.insert((unit, record));
                return;
            }
            Effect::Compared(..) | Effect::Done(_) | Effect::Heard(..) => return,
        };
        self.answer(at, answer, faults);
    }

    /// Some answers take their time, and overtake each other.
    fn answer(&mut self, at: usize, answer: Input, faults: Faults) {
        if self.dice.hits(faults.late) {
            let due_ms = self.now_ms + self.dice.roll(10) * STEP_MS;
            self.nodes[at].later.push((due_ms, answer));
        } else {
            self.nodes[at].inbox.push_back(answer);
        }
    }

    fn publish(
        &mut self,
        from: &UnitId,
        to: &UnitId,
        lasts: Lasts,
        body: &Body,
        faults: Faults,
    ) -> bool {
        if self.dice.hits(faults.refused) {
            return false;
        }
        let is_up = |node: &Node| node.id == *from && node.up.contains(to);
        if !self.nodes.iter().any(is_up) {
            return false;
        }
        if self.large > 0 && message::encoded_bytes(from, body) > LIMIT {
            // The channel closes with the reason, and the link reports it.
            let limit = Input::Limit(to.clone(), LIMIT);
            let sender = self.nodes.iter_mut().find(|node| node.id == *from);
            if self.broken != Broken::Limit {
                sender.unwrap().inbox.push_back(limit);
            }
            return false;
        }
        let until_ms = match lasts {
            Lasts::UntilRead => None,
            Lasts::Ms(ms) => Some(self.now_ms + ms),
        };
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            from: from.clone(),
            body: body.clone(),
        };
        // RabbitMQ never loses a confirmed message; a deleted queue does.
        if !self.dice.hits(faults.lost) {
            let node = self.nodes.iter_mut().find(|node| node.id == *to);
            node.unwrap().queue.push_back((envelope, until_ms));
        }
        // Taken, but the confirm is lost: it is sent again.
        !self.dice.hits(faults.unconfirmed)
    }

    pub(super) fn run(&mut self, steps: u64, faults: Faults) {
        for _ in 0..steps {
            self.step(faults);
        }
    }
}

impl Node {
    pub(super) fn new(number: usize, members: Vec<usize>, skew_ms: i64, broken: Broken) -> Self {
        let identity = number as u64;
        let store = Store::new(unit(number), broken);
        Self {
            machine: machine(number, &members),
            members,
            store: Store { identity, ..store },
            copies: VecDeque::new(),
            id: unit(number),
            queue: VecDeque::new(),
            unacked: BTreeMap::new(),
            stale: Vec::new(),
            inbox: [Input::Identity(identity)].into(),
            later: Vec::new(),
            cut_ms: BTreeMap::new(),
            up: BTreeSet::new(),
            reads: false,
            skew_ms,
            positions: BTreeMap::new(),
        }
    }

    /// Drops the messages on their way to this unit.
    pub(super) fn forget_queue(&mut self) {
        self.queue.clear();
        self.inbox.clear();
    }
}

fn versions(parts: &[(u8, Batch)]) -> impl Iterator<Item = Version> {
    let of = |batch: &Batch| -> Vec<Version> {
        match batch {
            Batch::Ops { ops, .. } => ops.iter().map(|op| op.record.version.clone()).collect(),
            Batch::Records { records, .. } => records
                .iter()
                .map(|record| record.version.clone())
                .collect(),
        }
    };
    parts.iter().flat_map(move |(_, batch)| of(batch))
}

pub(super) fn machine(at: usize, members: &[usize]) -> Machine {
    let peers = members.iter().filter(|number| **number != at);
    Machine::new(unit(at), peers.map(|number| unit(*number)).collect(), RULES)
}
