//! The VMs of a process that count requests in flight, so that what a dead one has counted goes.
//!
//! In-flight is a gauge of the process that every VM moves. A VM that traps takes its streams with
//! it but leaves its part of the gauge behind, and nobody knows how large that is. But each living
//! VM knows its own part. So when one is missed, the living move their parts to a second gauge, what
//! is left on the first one was the dead one's and is cleared, and they move back:
//!
//! | generation | the living count on | when all are there |
//! |---|---|---|
//! | even | [`Side::Home`] | the other side is cleared: it is settled |
//! | odd | [`Side::Away`] | the home side is cleared, and the next generation begins |
//!
//! A VM beats by its timer. The one with the lease misses it after [`SILENCE_MS`] of its own time,
//! in which a pause of the whole process does not count. Nothing here is touched by a request.

use crate::stored::stored;

/// So long without a beat, and a VM is dead.
pub const SILENCE_MS: u64 = 5_000;
/// More than this between two looks is a pause of the looker, and not silence of the others.
const LOOK_MS_MAX: u64 = 500;
/// From one beat to the next.
pub const BEAT_MS: u64 = 1_000;

/// Which of its two gauges a VM counts an instance's requests on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// The one that is shown as `in_flight`.
    #[default]
    Home,
    /// The other one, while somebody's death is settled.
    Away,
}

impl Side {
    /// The side that a generation counts on.
    pub fn of(generation: u64) -> Self {
        if generation.is_multiple_of(2) {
            Side::Home
        } else {
            Side::Away
        }
    }
}

/// What lies in shared data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    generation: u64,
    /// Whether nothing is left on the side that is not counted on.
    settled: bool,
    /// Whether somebody died since the last clearing began.
    mourned: bool,
    /// One for each worker: few enough to be walked through.
    vms: Vec<Vm>,
}

stored!(Roster {
    generation,
    settled,
    mourned,
    vms
});

#[derive(Debug, Clone, PartialEq, Eq)]
struct Vm {
    id: u64,
    beats: u64,
    generation: u64,
}

stored!(Vm {
    id,
    beats,
    generation
});

/// What the VM with the lease has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Set every gauge of this side to zero, and only then write the roster.
    Clear(Side),
    /// Write the roster.
    Write,
}

impl Default for Roster {
    /// Nobody yet, and nothing to settle.
    fn default() -> Self {
        Self {
            generation: 0,
            settled: true,
            mourned: false,
            vms: Vec::new(),
        }
    }
}

impl Roster {
    /// Nobody yet, and nothing to settle.
    pub fn new() -> Self {
        Self::default()
    }

    /// The side to count on.
    pub fn side(&self) -> Side {
        Side::of(self.generation)
    }

    /// Whether both sides may carry something.
    pub fn is_mixed(&self) -> bool {
        !self.settled
    }

    /// Names the roster's generation; a VM that counts by another one has to move.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// This VM is alive and counts on the side of this generation.
    pub fn beat(&mut self, vm: u64) {
        let generation = self.generation;
        match self.vms.iter_mut().find(|other| other.id == vm) {
            Some(known) => {
                known.beats += 1;
                known.generation = generation;
            }
            None => self.vms.push(Vm {
                id: vm,
                beats: 1,
                generation,
            }),
        }
    }

    /// Whether a VM is on it. One that is not was missed and struck off, or is new.
    pub fn has(&self, vm: u64) -> bool {
        self.get(vm).is_some()
    }

    /// Whether a VM has yet to say that it counts by this generation.
    pub fn awaits(&self, vm: u64) -> bool {
        self.get(vm)
            .is_none_or(|vm| vm.generation != self.generation)
    }

    fn get(&self, vm: u64) -> Option<&Vm> {
        self.vms.iter().find(|other| other.id == vm)
    }

    fn strike_off(&mut self, vm: u64) {
        self.vms.retain(|other| other.id != vm);
        self.mourned = true;
    }

    /// What comes next, by the VM with the lease.
    fn step(&mut self) -> Step {
        let all_here = self.vms.iter().all(|vm| vm.generation == self.generation);
        match (self.side(), self.settled) {
            (Side::Home, true) if self.mourned => {
                self.generation += 1;
                self.settled = false;
                self.mourned = false;
                Step::Clear(Side::Away)
            }
            (Side::Away, _) if all_here => {
                self.generation += 1;
                Step::Clear(Side::Home)
            }
            (Side::Home, false) if all_here => {
                self.settled = true;
                Step::Clear(Side::Away)
            }
            _ => Step::Rest,
        }
    }
}

/// The eye of the VM with the lease.
#[derive(Debug, Default)]
pub struct Watch {
    last_ms: Option<u64>,
    seen: Vec<Seen>,
}

/// What is known of a VM since it last beat.
#[derive(Debug)]
struct Seen {
    id: u64,
    beats: u64,
    silence_ms: u64,
}

impl Watch {
    /// Looks at the roster, strikes off who is silent, and says what to do.
    pub fn look(&mut self, roster: &mut Roster, now_ms: u64) -> Step {
        let passed = self
            .last_ms
            .map_or(0, |last| now_ms.saturating_sub(last).min(LOOK_MS_MAX));
        self.last_ms = Some(now_ms);
        let look = |vm: &Vm| {
            let before = self.seen.iter().find(|seen| seen.id == vm.id);
            let silence_ms = match before {
                Some(seen) if seen.beats != vm.beats => 0,
                Some(seen) => seen.silence_ms.saturating_add(passed),
                None => passed,
            };
            Seen {
                id: vm.id,
                beats: vm.beats,
                silence_ms,
            }
        };
        self.seen = roster.vms.iter().map(look).collect();
        let silent = self.seen.iter().filter(|vm| vm.silence_ms >= SILENCE_MS);
        let silent: Vec<u64> = silent.map(|vm| vm.id).collect();
        for vm in &silent {
            roster.strike_off(*vm);
        }
        match roster.step() {
            Step::Rest if !silent.is_empty() => Step::Write,
            step => step,
        }
    }
}

#[cfg(test)]
mod tests;
