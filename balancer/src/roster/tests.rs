//! VMs that count, trap and come back, on two gauges.

use super::*;
use proptest::prelude::*;

/// A VM of the model: it counts its own streams and changes the gauges.
struct Model {
    id: u64,
    streams: i64,
    generation: u64,
    alive: bool,
}

#[derive(Default)]
struct Process {
    home: i64,
    away: i64,
    roster: Roster,
    vms: Vec<Model>,
    watch: Watch,
    next_id: u64,
    now_ms: u64,
}

impl Process {
    fn of(vms: usize) -> Self {
        let mut process = Self {
            roster: Roster::new(),
            ..Self::default()
        };
        (0..vms).for_each(|_| process.spawn());
        process
    }

    fn spawn(&mut self) {
        self.next_id += 1;
        self.roster.beat(self.next_id);
        self.vms.push(Model {
            id: self.next_id,
            streams: 0,
            generation: self.roster.generation(),
            alive: true,
        });
    }

    fn gauge(&mut self, generation: u64) -> &mut i64 {
        if generation.is_multiple_of(2) {
            &mut self.home
        } else {
            &mut self.away
        }
    }

    fn count(&mut self, vm: usize, by: i64) {
        let model = &mut self.vms[vm];
        if !model.alive || model.streams + by < 0 {
            return;
        }
        model.streams += by;
        let generation = model.generation;
        *self.gauge(generation) += by;
    }

    fn tick(&mut self, vm: usize) {
        let (id, streams, old) = {
            let model = &self.vms[vm];
            if !model.alive {
                return;
            }
            (model.id, model.streams, model.generation)
        };
        let new = self.roster.generation();
        if old != new {
            *self.gauge(old) -= streams;
            *self.gauge(new) += streams;
            self.vms[vm].generation = new;
        }
        self.roster.beat(id);
        // The first living VM has the lease.
        if self.vms.iter().position(|vm| vm.alive) == Some(vm) {
            match self.watch.look(&mut self.roster, self.now_ms) {
                Step::Clear(Side::Home) => self.home = 0,
                Step::Clear(Side::Away) => self.away = 0,
                Step::Write | Step::Rest => {}
            }
        }
    }

    fn seconds(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.now_ms += 250;
            (0..self.vms.len()).for_each(|vm| self.tick(vm));
        }
    }

    fn in_flight(&self) -> i64 {
        self.vms
            .iter()
            .filter(|vm| vm.alive)
            .map(|vm| vm.streams)
            .sum()
    }
}

#[test]
fn what_a_dead_vm_counted_goes_and_what_the_living_count_stays() {
    let mut process = Process::of(3);
    for (vm, streams) in [(1, 5), (2, 7)] {
        process.count(vm, streams);
    }
    process.seconds(2);
    process.vms[1].alive = false;
    process.spawn();
    process.count(3, 2);
    assert_eq!(process.home, 14);
    process.seconds(10);
    assert_eq!((process.home, process.away), (9, 0));
    assert!(!process.roster.is_mixed());
    assert_eq!(process.roster.side(), Side::Home);
}

#[test]
fn a_pause_of_the_whole_process_is_nobodys_death() {
    let mut process = Process::of(3);
    process.count(1, 5);
    process.seconds(2);
    process.now_ms += 3_600_000;
    process.seconds(20);
    assert_eq!(process.roster.generation(), 0);
    assert_eq!(process.home, 5);
}

#[test]
fn a_vm_that_is_struck_off_by_mistake_is_on_it_again_with_its_next_beat() {
    let mut roster = Roster::new();
    roster.beat(1);
    roster.strike_off(1);
    assert!(!roster.has(1));
    roster.beat(1);
    assert!(roster.has(1));
}

proptest! {
    #[test]
    fn after_any_deaths_the_gauge_is_what_the_living_carry(
        steps in prop::collection::vec((0usize..6, 0usize..4, 1i64..9), 1..60),
    ) {
        let mut process = Process::of(3);
        for (what, vm, n) in steps {
            let vm = vm % process.vms.len();
            match what {
                // The first VM has the lease; that it may die too is the last case.
                0 if process.vms.iter().filter(|vm| vm.alive).count() > 1 => {
                    process.vms[vm].alive = false;
                    process.spawn();
                }
                1 => process.count(vm, -n),
                2 => process.seconds(n.unsigned_abs()),
                _ => process.count(vm, n),
            }
        }
        process.seconds(40);
        prop_assert_eq!((process.home, process.away), (process.in_flight(), 0));
        prop_assert!(!process.roster.is_mixed());
    }
}
