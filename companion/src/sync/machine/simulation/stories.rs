//! Random runs by their seeds: faults of one kind and some that are always there, while clients write; then none.

use std::ops::Range;

use super::super::{Input, Note, Rules};
use super::Dice;
use super::broken::Broken;
use super::faults::Faults;
use super::world::{Node, RULES, STALE_MS, STEP_MS, World, machine};

/// Steps while clients write.
const STEPS: u64 = 160;
/// How far ahead a clock may be set by mistake, in ms: an hour.
const FAR_MS: i64 = 3_600_000;

/// What goes wrong in a story, beside messages, links and processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Little goes wrong, so that no repair is needed.
    Calm,
    DiskLost,
    ClockJumps,
    /// A unit's clock is an hour ahead for a while.
    FarClock,
    GoneBack,
    ShardBack,
    Full,
    WithoutPeers,
    Large,
    ValuesLost,
    WrongDigest,
    Hostile,
    Twin,
    Leaving,
}

const KINDS: [Kind; 15] = [
    Kind::Plain,
    Kind::Calm,
    Kind::DiskLost,
    Kind::ClockJumps,
    Kind::FarClock,
    Kind::GoneBack,
    Kind::ShardBack,
    Kind::Full,
    Kind::WithoutPeers,
    Kind::Large,
    Kind::ValuesLost,
    Kind::WrongDigest,
    Kind::Hostile,
    Kind::Twin,
    Kind::Leaving,
];

/// The faults of a story, and the world in which it begins.
struct Story {
    kind: Kind,
    faults: Faults,
    world: World,
    dice: Dice,
}

impl Story {
    fn new(seed: u64, kind: Option<Kind>, broken: Broken) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let units = 3 + dice.place(5);
        let any = KINDS[dice.place(KINDS.len())];
        let kind = kind.unwrap_or(any);
        let mut story = Self {
            kind,
            faults: Faults::default(),
            world: World::new(seed, units, broken),
            dice,
        };
        match kind {
            Kind::Calm => story.calm(),
            _ => story.troubled(),
        }
        story.of_its_kind();
        story
    }

    fn percent(&mut self, most: u64) -> u8 {
        u8::try_from(self.dice.roll(most + 1)).unwrap()
    }

    fn calm(&mut self) {
        self.faults = Faults {
            repeated: self.percent(20),
            refused: self.percent(10),
            store_away: self.percent(15),
            late: self.percent(20),
            link_down: self.percent(4),
            inbox_down: self.percent(4),
            crash: self.percent(1),
            is_calm: true,
            ..Faults::default()
        };
        // What is a while under way does not count as lost.
        self.rules(Rules {
            digest_interval_ms: 4_000,
            keep_ms: 24_000,
            ..RULES
        });
    }

    fn rules(&mut self, rules: Rules) {
        self.world.rules = rules;
        for node in &mut self.world.nodes {
            node.machine = machine(node.number, &node.members, rules);
        }
    }

    fn troubled(&mut self) {
        self.faults = Faults {
            lost: self.percent(12),
            repeated: self.percent(20),
            stale: self.percent(10),
            reordered: self.percent(40),
            unconfirmed: self.percent(20),
            refused: self.percent(10),
            store_away: self.percent(15),
            late: self.percent(40),
            link_down: self.percent(4),
            inbox_down: self.percent(4),
            crash: self.percent(2),
            ..Faults::default()
        };
        if self.dice.hits(20) {
            let mut rules = RULES;
            rules.outbox_max.ops = 12;
            self.rules(rules);
        }
    }

    fn of_its_kind(&mut self) {
        // Where a store is lost or goes back, a copy that comes late may bring a version that was forgotten, or
        // make one version twice: docs/sync.md does not promise to mend that.
        match self.kind {
            Kind::Plain | Kind::Calm | Kind::FarClock => {}
            Kind::DiskLost => (self.faults.disk_lost, self.faults.stale) = (1 + self.percent(3), 0),
            Kind::ClockJumps => self.faults.clock_jumps = 1 + self.percent(9),
            Kind::GoneBack => (self.faults.gone_back, self.faults.stale) = (1 + self.percent(5), 0),
            Kind::ShardBack => {
                (self.faults.shard_back, self.faults.stale) = (1 + self.percent(5), 0);
            }
            Kind::Full => {
                // Room for all keys, and little for ops that wait.
                let room = usize::try_from(self.world.keys).unwrap() + 8;
                let nodes = self.world.nodes.iter_mut();
                nodes.for_each(|node| node.store.room = room);
            }
            Kind::WithoutPeers => self.world.without_peers = 1 + self.percent(19),
            Kind::Large => self.world.large = 1 + self.percent(19),
            Kind::ValuesLost => {
                self.faults.values_lost = 1 + self.percent(9);
                let nodes = self.world.nodes.iter_mut();
                nodes.for_each(|node| node.store.loses_values = true);
            }
            Kind::WrongDigest => self.faults.wrong_digest = 1 + self.percent(9),
            Kind::Hostile => self.faults.hostile = 5 + self.percent(25),
            Kind::Twin => self.twin(),
            Kind::Leaving => {
                self.world.members_change = true;
                (self.faults.leaving, self.faults.stale) = (15 + self.percent(30), 0);
            }
        }
    }

    /// A second unit of a name: it has a store of its own, and the queue of the first, which reads it alone.
    fn twin(&mut self) {
        let world = &mut self.world;
        let members = (0..world.units.len()).collect();
        let skew_ms = world.nodes[0].skew_ms;
        let mut twin = Node::new(0, members, skew_ms, world.broken);
        twin.is_twin = true;
        twin.store.identity = 99;
        twin.inbox = [Input::Identity(99)].into();
        world.nodes.push(twin);
        world.has_lied = true;
    }

    /// Clients write, and things go wrong.
    fn trouble(&mut self) -> Result<(), String> {
        let far = self.dice.place(self.world.nodes.len());
        for step in 0..STEPS {
            if self.kind == Kind::FarClock && (step == 40 || step == 80) {
                let sign = if step == 40 { 1 } else { -1 };
                self.world.nodes[far].skew_ms += sign * FAR_MS;
            }
            self.world.write();
            self.world.step(self.faults);
            if step % 20 == 0 {
                self.world.check_positions()?;
                self.check_outboxes()?;
            }
        }
        if self.kind == Kind::FarClock && self.world.broken != Broken::WayBack {
            self.world.set_clocks_back(far);
        }
        Ok(())
    }

    /// What went wrong is over.
    fn end(&mut self) -> Result<(), String> {
        let world = &mut self.world;
        if self.kind == Kind::Twin {
            world.run(10_000 / STEP_MS, Faults::default());
            let twin = world.nodes.pop().unwrap();
            if !world.namesakes.contains(&twin.id) {
                return Err(format!("no unit found out that {} is two", twin.id));
            }
        }
        world.complete();
        world.settle()?;
        // Neither messages still under way nor tombstones collected only now may change it.
        world.run(STALE_MS / STEP_MS, Faults::default());
        world.check()?;
        if self.kind == Kind::Calm {
            self.check_calm()?;
        }
        let world = &mut self.world;
        if !world.lost_values.is_empty() {
            // The recovery: all units get the values that any unit still has.
            world.lost_values.clear();
            for at in 0..world.nodes.len() {
                let wall_ms = world.wall_ms(at);
                world.nodes[at].store.recount_all(wall_ms);
            }
            world.settle()?;
        }
        world.write_everything()?;
        world.settle()?;
        world.come_to_rest()?;
        self.check_skews()
    }

    /// An outbox stays in its bound, but for the writes since it was last counted.
    fn check_outboxes(&self) -> Result<(), String> {
        let max = self.world.rules.outbox_max.ops + 40;
        for node in &self.world.nodes {
            let waiting = node.store.waiting();
            let ops: u64 = waiting.values().map(|backlog| backlog.ops).sum();
            if ops > max {
                return Err(format!("{}: {ops} ops wait", node.id));
            }
        }
        Ok(())
    }

    /// Where nothing was lost, little is repaired: a unit whose own digests were read before those of a peer arrived may
    /// ask for what is under way, and holds some records before it claims their positions.
    fn check_calm(&self) -> Result<(), String> {
        for (note, max) in [(Note::Skipped, 0), (Note::Diverged, 4), (Note::Repaired, 8)] {
            let count = self.world.notes.get(&note).copied().unwrap_or(0);
            if count > max {
                return Err(format!("{note:?}: {count}, although nothing was lost"));
            }
        }
        Ok(())
    }

    /// Clocks that are apart are seen.
    fn check_skews(&self) -> Result<(), String> {
        match self.world.skews.is_empty() {
            true => Err("no unit knows how far clocks are apart".to_owned()),
            false => Ok(()),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        self.trouble()?;
        self.end()
    }
}

/// The first of these seeds whose run fails, on all cores.
pub(super) fn first_bad(
    seeds: Range<u64>,
    kind: Option<Kind>,
    broken: Broken,
) -> Option<(u64, String)> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let run = |seed| {
        let mut story = Story::new(seed, kind, broken);
        let why = story.run().err()?;
        Some((
            seed,
            format!("{:?}: {why}, after {:?}", story.kind, story.faults),
        ))
    };
    std::thread::scope(|scope| {
        let told: Vec<_> = (0..cores)
            .map(|core| {
                let mut mine = seeds.clone().filter(move |seed| seed % cores == core);
                scope.spawn(move || mine.find_map(run))
            })
            .collect();
        let told = told.into_iter().filter_map(|thread| thread.join().unwrap());
        told.min_by_key(|(seed, _)| *seed)
    })
}
