//! Units in virtual time: their state, and its steps.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::mem::Discriminant;
use std::sync::Arc;

use unitring_protocol::envelope::Envelope;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, RecordId, Version};

use super::super::{Effect, Input, Machine, Moment, Note, Rules, Tag};
use super::Dice;
use super::broken::Broken;
use super::faults::Faults;
use super::history::History;
use super::judge::Write;
use super::membership::Absent;
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
    pub(super) number: usize,
    /// Another unit of the same name.
    pub(super) is_twin: bool,
    /// Whether its store was ever put back to an older copy.
    pub(super) went_back: bool,
    pub(super) machine: Machine,
    /// Itself and its peers.
    pub(super) members: Vec<usize>,
    pub(super) store: Store,
    /// Older copies of it.
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
    /// The units that left, as its store said when its machine began.
    pub(super) removed: BTreeSet<UnitId>,
    /// Whether it left itself, and since when it knows.
    pub(super) is_out: bool,
    pub(super) out_since_ms: u64,
    /// Until when its companions do not run; 0 while they do.
    pub(super) stopped_until_ms: u64,
    pub(super) has_queue: bool,
    /// What its store did not do when it was last asked, and the units to which its broker took no message.
    pub(super) was_away: HashSet<Discriminant<Effect>>,
    pub(super) was_refused: BTreeSet<UnitId>,
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
    /// Who knew what.
    pub(super) history: History,
    /// The first thing that was seen to be wrong.
    pub(super) wrong: Option<String>,
    /// Whether someone lied about positions, so that a deletion may be undone.
    pub(super) has_lied: bool,
    /// Whether units leave and return.
    pub(super) members_change: bool,
    /// The unit that left, and when it comes back.
    pub(super) absent: Option<Absent>,
    pub(super) rules: Rules,
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
            history: History::default(),
            wrong: None,
            has_lied: false,
            members_change: false,
            absent: None,
            rules: RULES,
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
        self.membership(faults);
        for at in 0..self.nodes.len() {
            if self.nodes[at].stopped_until_ms > 0 || self.nodes[at].is_out {
                continue;
            }
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
            machine: machine(number, &members, RULES),
            members,
            store: Store { identity, ..store },
            copies: VecDeque::new(),
            id: unit(number),
            number,
            is_twin: false,
            went_back: false,
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
            removed: BTreeSet::new(),
            is_out: false,
            out_since_ms: 0,
            stopped_until_ms: 0,
            has_queue: true,
            was_away: HashSet::new(),
            was_refused: BTreeSet::new(),
        }
    }
}

pub(super) fn machine(number: usize, members: &[usize], rules: Rules) -> Machine {
    let peers = members.iter().filter(|peer| **peer != number);
    Machine::new(unit(number), peers.map(|peer| unit(*peer)).collect(), rules)
}
