//! Units in virtual time, over a broker that loses, repeats and reorders, with seeds: whatever
//! happens, once faults stop all units hold the same.
//!
//! The stores are models: the same rules in a map. The real stores keep them by the contract suite.

mod store;

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::envelope::Envelope;
use unitring_protocol::ids::UnitId;

use super::{Effect, Input, Note, Route, Tag, Unit};
use store::Store;

const INTERVAL_MS: u64 = 1_000;
const STEP_MS: u64 = 50;

/// How badly things go, in percent.
#[derive(Debug, Clone, Copy)]
struct Faults {
    lost: u8,
    repeated: u8,
    reordered: u8,
    unconfirmed: u8,
    store_away: u8,
    link_down: u8,
    crash: u8,
}

const CALM: Faults = Faults {
    lost: 0,
    repeated: 0,
    reordered: 0,
    unconfirmed: 0,
    store_away: 0,
    link_down: 0,
    crash: 0,
};

/// A small generator (xorshift64*): a seed is a story that can be told again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn hits(&mut self, percent: u8) -> bool {
        self.roll(100) < u64::from(percent)
    }
}

/// A unit with its store and its queue at the broker.
struct Node {
    id: UnitId,
    machine: Unit,
    store: Store,
    queue: VecDeque<Envelope>,
    unacked: BTreeMap<Tag, Envelope>,
    inbox: VecDeque<Input>,
    is_up: bool,
    /// Its clock is off by so much.
    skew_ms: u64,
}

struct World {
    nodes: Vec<Node>,
    dice: Dice,
    now_ms: u64,
    last_tag: Tag,
    notes: BTreeMap<Note, u64>,
}

impl World {
    fn new(seed: u64, units: &[&str]) -> Self {
        let node = |(skew, unit): (u64, &&str)| {
            let id: UnitId = unit.parse().unwrap();
            Node {
                machine: Unit::new(id.clone(), INTERVAL_MS),
                store: Store::new(id.clone()),
                id,
                queue: VecDeque::new(),
                unacked: BTreeMap::new(),
                inbox: VecDeque::new(),
                is_up: false,
                skew_ms: skew * 5_000,
            }
        };
        Self {
            nodes: (0..).zip(units).map(node).collect(),
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now_ms: 1_000_000,
            last_tag: 0,
            notes: BTreeMap::new(),
        }
    }

    fn write(&mut self) {
        let at = usize::try_from(self.dice.roll(self.nodes.len() as u64)).unwrap();
        let key = format!("k{}", self.dice.roll(12));
        let value = self
            .dice
            .hits(75)
            .then(|| self.dice.roll(1_000_000).to_string());
        let node = &mut self.nodes[at];
        let now = self.now_ms + node.skew_ms;
        if let Some(bucket) = node.store.write(&key, value.map(String::into_bytes), now) {
            // One in five is not told: another companion of the unit wrote it.
            if self.dice.hits(80) {
                node.inbox.push_back(Input::Written([bucket].into()));
            }
        }
    }

    fn step(&mut self, faults: Faults) {
        self.now_ms += STEP_MS;
        for at in 0..self.nodes.len() {
            self.trouble(at, faults);
            self.deliver(at, faults);
            self.nodes[at].inbox.push_back(Input::Tick);
            while let Some(input) = self.nodes[at].inbox.pop_front() {
                let effects = self.nodes[at].machine.handle(input, self.now_ms);
                for effect in effects {
                    self.perform(at, effect, faults);
                }
            }
        }
    }

    fn trouble(&mut self, at: usize, faults: Faults) {
        if self.dice.hits(faults.crash) {
            let node = &mut self.nodes[at];
            node.machine = Unit::new(node.id.clone(), INTERVAL_MS);
            node.inbox.clear();
            node.is_up = false;
            self.requeue(at);
        }
        let node = &mut self.nodes[at];
        if !node.is_up {
            node.is_up = true;
            node.inbox.push_back(Input::LinkUp);
        } else if self.dice.hits(faults.link_down) {
            node.is_up = false;
            node.inbox.push_back(Input::LinkDown);
            self.requeue(at);
        }
    }

    fn requeue(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        for (_, envelope) in std::mem::take(&mut node.unacked).into_iter().rev() {
            node.queue.push_front(envelope);
        }
    }

    fn deliver(&mut self, at: usize, faults: Faults) {
        while self.nodes[at].is_up && self.nodes[at].unacked.len() < 8 {
            let waiting = self.nodes[at].queue.len() as u64;
            let place = match self.dice.hits(faults.reordered) {
                true if waiting > 0 => usize::try_from(self.dice.roll(waiting)).unwrap(),
                _ => 0,
            };
            let Some(envelope) = self.nodes[at].queue.remove(place) else {
                return;
            };
            if self.dice.hits(faults.repeated) {
                self.nodes[at].queue.push_back(envelope.clone());
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
        let present = |input| (!is_away).then_some(input);
        let store = &mut self.nodes[at].store;
        let answer = match effect {
            Effect::Count => Input::Counted(present(()).map(|()| store.waiting())),
            Effect::ReadOutbox(bucket) => {
                Input::OutboxRead(bucket, present(()).map(|()| store.outbox(bucket)))
            }
            Effect::Trim(bucket, through) => Input::Trimmed(
                bucket,
                present(()).map(|()| store.trim(bucket, through)).is_some(),
            ),
            Effect::Apply(tag, bucket, batch) => {
                Input::Applied(tag, present(()).map(|()| store.apply(bucket, &batch)))
            }
            Effect::ReadStates(purpose) => {
                Input::States(purpose, present(()).map(|()| store.states()))
            }
            Effect::ReadPage(bucket, page) => {
                Input::PageRead(present(()).map(|()| store.page(bucket, page)))
            }
            Effect::Publish(id, route, body) => {
                let from = self.nodes[at].id.clone();
                let envelope = Envelope {
                    version: PROTOCOL_VERSION,
                    from: from.clone(),
                    body,
                };
                self.publish(&from, &route, &envelope, faults);
                // Taken, but the confirm is lost: it is sent again.
                Input::Published(id, !self.dice.hits(faults.unconfirmed))
            }
            Effect::Ack(tag) => {
                self.nodes[at].unacked.remove(&tag);
                return;
            }
            Effect::Note(note, count) => {
                *self.notes.entry(note).or_default() += count;
                return;
            }
            Effect::Compared(..) => return,
        };
        self.nodes[at].inbox.push_back(answer);
    }

    fn publish(&mut self, from: &UnitId, route: &Route, envelope: &Envelope, faults: Faults) {
        for node in &mut self.nodes {
            let is_meant = match route {
                Route::All | Route::AllFor(_) => node.id != *from,
                Route::One(unit) => node.id == *unit,
            };
            // What RabbitMQ never does with what it confirmed; a deleted queue does.
            if is_meant && !self.dice.hits(faults.lost) {
                node.queue.push_back(envelope.clone());
            }
        }
    }

    fn run(&mut self, steps: u64, faults: Faults) {
        for _ in 0..steps {
            self.step(faults);
        }
    }

    fn are_equal(&self) -> bool {
        let [first, others @ ..] = self.nodes.as_slice() else {
            return true;
        };
        others.iter().all(|other| {
            other.store.records() == first.store.records()
                && other.store.states() == first.store.states()
                && other.store.waiting().is_empty()
        })
    }

    /// Time passes without faults until all units are equal; how many seconds that took.
    fn settle(&mut self) -> u64 {
        for second in 0..300 {
            if self.are_equal() {
                return second;
            }
            self.run(1_000 / STEP_MS, CALM);
        }
        let states: Vec<_> = self.nodes.iter().map(|node| node.store.states()).collect();
        panic!("after 300 s units still differ: {states:#?}");
    }
}

#[test]
fn without_faults_a_write_is_everywhere_within_a_second_and_nothing_is_repaired() {
    let mut world = World::new(1, &["a", "b", "c"]);
    world.run(4, CALM);
    for _ in 0..50 {
        world.write();
        world.step(CALM);
    }
    assert!(world.settle() <= 2);
    assert_eq!(world.notes.get(&Note::Repaired).copied().unwrap_or(0), 0);
    assert_eq!(world.notes.get(&Note::Gaps).copied().unwrap_or(0), 0);
}

#[test]
fn a_unit_that_lost_its_store_gets_everything_back_and_goes_on_above_its_old_sequence() {
    let mut world = World::new(2, &["a", "b"]);
    for _ in 0..60 {
        world.write();
        world.step(CALM);
    }
    world.settle();
    let before = world.nodes[1].store.records();
    let id = world.nodes[1].id.clone();
    world.nodes[1].store = Store::new(id);
    world.settle();
    assert_eq!(world.nodes[1].store.records(), before);
    for _ in 0..20 {
        world.write();
        world.step(CALM);
    }
    world.settle();
}

#[test]
fn a_unit_that_joins_late_gets_what_was_before_it() {
    let mut world = World::new(3, &["a", "b", "c"]);
    // c's queue does not exist yet.
    for _ in 0..60 {
        world.write();
        let mut late = world.nodes.pop().unwrap();
        world.step(CALM);
        late.queue.clear();
        late.inbox.clear();
        late.store = Store::new(late.id.clone());
        world.nodes.push(late);
    }
    world.settle();
    assert!(world.notes[&Note::Repaired] > 0);
}

#[test]
fn records_that_differ_at_equal_positions_are_found_and_repaired() {
    let mut world = World::new(4, &["a", "b"]);
    for _ in 0..40 {
        world.write();
        world.step(CALM);
    }
    world.settle();
    world.nodes[0].store.damage();
    assert!(!world.are_equal());
    world.settle();
    assert!(world.notes[&Note::Diverged] > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn once_faults_stop_all_units_hold_the_same(
        seed: u64,
        units in 2usize..=3,
        lost in 0u8..15,
        repeated in 0u8..20,
        reordered in 0u8..40,
        unconfirmed in 0u8..20,
        store_away in 0u8..20,
        link_down in 0u8..5,
        crash in 0u8..3,
    ) {
        let faults = Faults { lost, repeated, reordered, unconfirmed, store_away, link_down, crash };
        let mut world = World::new(seed, &["a", "b", "c"][..units]);
        for _ in 0..120 {
            world.write();
            world.step(faults);
        }
        world.settle();
    }
}
