//! Units in virtual time: their state, and its steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use unitring_protocol::envelope::Envelope;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, RecordId, Version};

use super::super::{Input, Machine, Moment, Note, Rules, Tag};
use super::Dice;
use super::broken::Broken;
use super::faults::Faults;
use super::judge::Write;
use super::store::Store;
use crate::store::Backlog;

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
    pub(super) stale: Vec<(u64, Envelope)>,
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
    pub(super) last_tag: Tag,
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
}

pub(super) fn machine(at: usize, members: &[usize]) -> Machine {
    let peers = members.iter().filter(|number| **number != at);
    Machine::new(unit(at), peers.map(|number| unit(*number)).collect(), RULES)
}
