//! Units, their brokers, and what goes wrong between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::envelope::{Body, Envelope, Part};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, RecordId, Version};

use super::super::{Effect, Input, Lasts, Machine, Moment, Note, Rules, Tag};
use super::Dice;
use super::judge::{Kept, Write};
use super::store::{Broken, Store};
use crate::replica::epoch;
use crate::store::{Backlog, Batch};

pub(super) const STEP_MS: u64 = 50;
/// In ms since the Unix epoch.
const YEAR_2500: u64 = 16_725_225_600_000;
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

/// How badly things go, in percent.
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
    /// Of a thousand.
    pub(super) disk_lost: u8,
    /// Of a thousand.
    pub(super) clock_jumps: u8,
    /// Of a thousand: the store goes back to an older copy of itself.
    pub(super) gone_back: u8,
    /// Of a thousand: somebody sends a change of the future in the name of a member.
    pub(super) hostile: u8,
}

/// A unit with its store and its queue at a broker.
pub(super) struct Node {
    pub(super) id: UnitId,
    pub(super) machine: Machine,
    /// Itself and those it syncs with.
    members: Vec<usize>,
    pub(super) store: Store,
    /// Older copies of it, and when they were made.
    copies: VecDeque<Store>,
    pub(super) queue: VecDeque<(Envelope, Option<u64>)>,
    pub(super) unacked: BTreeMap<Tag, Envelope>,
    /// Copies that a broker was thought to have lost: when it comes back with them.
    stale: Vec<(u64, Envelope)>,
    inbox: VecDeque<Input>,
    /// Answers that take their time.
    later: Vec<(u64, Input)>,
    /// Until when a link is cut.
    cut_ms: BTreeMap<UnitId, u64>,
    up: BTreeSet<UnitId>,
    reads: bool,
    /// Its clock is off by so much.
    pub(super) skew_ms: i64,
    pub(super) positions: BTreeMap<u8, BTreeMap<UnitId, Position>>,
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) dice: Dice,
    pub(super) now_ms: u64,
    last_tag: Tag,
    pub(super) notes: BTreeMap<Note, u64>,
    pub(super) skews: BTreeMap<(UnitId, UnitId), i64>,
    pub(super) writes: BTreeMap<RecordId, Vec<Write>>,
    /// What another store had.
    pub(super) spread: BTreeSet<Version>,
    /// How many keys are written.
    pub(super) keys: u64,
    /// What was not taken, and of whom.
    pub(super) aside: BTreeSet<(UnitId, RecordId)>,
    broken: Broken,
}

fn unit(number: usize) -> UnitId {
    format!("u{number}").parse().unwrap()
}

impl World {
    pub(super) fn new(seed: u64, units: usize, broken: Broken) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            dice: Dice::new(seed),
            now_ms: 1_000_000,
            last_tag: 0,
            notes: BTreeMap::new(),
            skews: BTreeMap::new(),
            writes: BTreeMap::new(),
            spread: BTreeSet::new(),
            keys: 12,
            aside: BTreeSet::new(),
            broken,
        };
        for number in 0..units {
            let skew_ms = world.dice.roll(4_000).cast_signed() - 2_000;
            world.nodes.push(Node {
                machine: machine(number, &(0..units).collect::<Vec<_>>()),
                members: (0..units).collect(),
                store: Store::new(unit(number), broken),
                copies: VecDeque::new(),
                id: unit(number),
                queue: VecDeque::new(),
                unacked: BTreeMap::new(),
                stale: Vec::new(),
                inbox: VecDeque::new(),
                later: Vec::new(),
                cut_ms: BTreeMap::new(),
                up: BTreeSet::new(),
                reads: false,
                skew_ms,
                positions: BTreeMap::new(),
            });
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
        let node = &mut self.nodes[at];
        let value = value.map(String::into_bytes);
        let who = node.id.clone();
        let Some((bucket, record)) = node.store.write(&key, value, expires, wall_ms) else {
            return;
        };
        if std::env::var("SEED").is_ok() && record.id.key.as_str() == "k8" {
            eprintln!("{} {who} writes {record:?}", self.now_ms);
        }
        self.writes
            .entry(record.id.clone())
            .or_default()
            .push(Write {
                record,
                kept: Kept::Surely,
            });
        // One in five is not told: another companion of the unit wrote it.
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

    fn trouble(&mut self, at: usize, faults: Faults) {
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
        if faults.gone_back > 0 {
            self.go_back(at, faults);
        }
        if faults.hostile > 0 && self.dice.roll(1_000) < u64::from(faults.hostile) {
            self.lie(at);
        }
        let now_ms = self.now_ms;
        for number in (0..self.nodes.len()).filter(|number| *number != at) {
            if self.dice.hits(faults.link_down) {
                // Some cuts are short, some outlast what is kept.
                let until_ms = now_ms + self.dice.roll(8_000);
                self.nodes[at].cut_ms.insert(unit(number), until_ms);
            }
            let node = &mut self.nodes[at];
            let peer = unit(number);
            let is_cut = node.cut_ms.get(&peer).is_some_and(|until| now_ms < *until);
            if is_cut && node.up.remove(&peer) {
                node.inbox.push_back(Input::LinkDown(peer));
            } else if !is_cut && node.up.insert(peer.clone()) {
                node.inbox.push_back(Input::LinkUp(peer));
            }
        }
        if !self.nodes[at].reads {
            self.nodes[at].reads = true;
        } else if self.dice.hits(faults.inbox_down) {
            self.nodes[at].reads = false;
            self.nodes[at].inbox.push_back(Input::InboxDown);
            self.requeue(at);
        }
    }

    fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.machine = machine(at, &node.members);
        node.inbox.clear();
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
    }

    /// A change of the year 2500, of a record that clients write, too.
    fn lie(&mut self, at: usize) {
        let from = unit((at + 1) % self.nodes.len());
        let key = format!("k{}", self.dice.roll(self.keys));
        let mut forged = Store::new(from.clone(), Broken::Nothing);
        let value = Some(b"forged".to_vec());
        let Some((bucket, _)) = forged.write(&key, value, None, YEAR_2500) else {
            return;
        };
        let waiting = forged.outboxes(&[(bucket, Position::default())]).remove(0);
        let part = Part {
            bucket,
            incarnation: waiting.incarnation,
            skipped: false,
            ops: waiting.ops,
            passed: BTreeSet::new(),
        };
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            from,
            body: Body::Ops { parts: vec![part] },
        };
        self.nodes[at].queue.push_back((envelope, None));
    }

    /// The store is empty, or an older copy of itself.
    fn lose_disk(&mut self, at: usize, copy: Option<Store>) {
        let id = unit(at);
        if std::env::var("SEED").is_ok() {
            eprintln!("{} {id} back={}", self.now_ms, copy.is_some());
        }
        let queued = self.queued();
        let others = || self.nodes.iter().filter(|node| node.id != id);
        for write in self.writes.values_mut().flatten() {
            // What was the last to have it is gone; that something else took its place does no harm here.
            let version = &write.record.version;
            let is_kept = copy.as_ref().is_some_and(|copy| copy.has(version));
            if !is_kept && !others().any(|node| node.store.has(version)) {
                let kept = queued.get(version).copied().unwrap_or(Kept::No);
                // Other changes take the numbers of those that an older copy lacks: then it depends on the order
                // whether what is still under way is taken.
                let most = if copy.is_some() {
                    Kept::Perhaps
                } else {
                    Kept::Surely
                };
                write.kept = write.kept.min(kept).min(most);
            }
        }
        // Or it might make a version twice, which docs/sync.md does not promise to mend.
        let behind_ms = self.nodes[at].store.clock_ms() + STEP_MS;
        let behind_ms = behind_ms.saturating_sub(self.wall_ms(at));
        let node = &mut self.nodes[at];
        node.skew_ms += behind_ms.cast_signed();
        node.store = copy.unwrap_or_else(|| Store::new(id, self.broken));
        node.positions.clear();
    }

    fn requeue(&mut self, at: usize) {
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
                let applied = present(()).map(|()| store.apply(&parts, wall_ms));
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
            Effect::Unsendable(..) => return,
            Effect::Recount(bucket) => return store.recount(bucket),
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
        let until_ms = match lasts {
            Lasts::UntilRead => None,
            Lasts::Ms(ms) => Some(self.now_ms + ms),
        };
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            from: from.clone(),
            body: body.clone(),
        };
        // What RabbitMQ never does with what it confirmed; a deleted queue does.
        if !self.dice.hits(faults.lost) {
            let node = self.nodes.iter_mut().find(|node| node.id == *to);
            node.unwrap().queue.push_back((envelope, until_ms));
        }
        // Taken, but the confirm is lost: it is sent again.
        !self.dice.hits(faults.unconfirmed)
    }

    /// Who is in the group from now on, as all of these learn at once: their sync begins anew.
    pub(super) fn members(&mut self, members: &[usize]) {
        for at in members {
            self.nodes[*at].members = members.to_vec();
            self.crash(*at);
        }
    }

    pub(super) fn run(&mut self, steps: u64, faults: Faults) {
        for _ in 0..steps {
            self.step(faults);
        }
    }
}

impl Node {
    /// Clears what is on its way to this unit.
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

fn machine(at: usize, members: &[usize]) -> Machine {
    let peers = members.iter().filter(|number| **number != at);
    Machine::new(unit(at), peers.map(|number| unit(*number)).collect(), RULES)
}
