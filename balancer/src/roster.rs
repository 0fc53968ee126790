//! The VMs of a process that count requests in flight, and how a dead VM's counts are cleared.
//!
//! In-flight is a gauge of the process that every VM changes. A VM that traps takes its streams
//! with it but leaves its part of the gauge behind, and no VM knows how large that part is. But
//! each living VM knows its own part. So when a VM is missing, the living VMs move their parts to a
//! second gauge. What remains on the first gauge belonged to the dead VM and is cleared, and the
//! living VMs move back:
//!
//! | generation | the living count on | when all of them do |
//! |---|---|---|
//! | even | [`Side::Home`] | the away side is cleared: the death is settled |
//! | odd | [`Side::Away`] | the home side is cleared, and the next generation begins |
//!
//! Each VM sends heartbeats on its timer. The VM with the lease declares another one dead after
//! [`SILENCE_MS`] of its own time, in which a pause of the whole process does not count. Requests
//! do not touch the roster.

use crate::stored::stored;

/// A VM without a heartbeat for this long is dead.
pub const SILENCE_MS: u64 = 5_000;
/// A longer gap between two looks is a pause of the VM that looks, not silence of the others.
const LOOK_MS_MAX: u64 = 500;
/// Time between two heartbeats of a VM.
pub const BEAT_MS: u64 = 1_000;

/// The gauge of the two on which a VM counts an instance's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// The gauge that stats show as `in_flight`.
    #[default]
    Home,
    /// The other gauge, used while a VM's death is settled.
    Away,
}

impl Side {
    /// The side on which a generation counts.
    pub fn of(generation: u64) -> Self {
        if generation.is_multiple_of(2) {
            Side::Home
        } else {
            Side::Away
        }
    }
}

/// The roster in shared data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    generation: u64,
    /// Whether nothing is left on the side that is not in use.
    settled: bool,
    /// Whether a VM was struck off since the last clearing began.
    mourned: bool,
    /// One for each worker, so few that a linear search is cheap.
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

/// The next step of the VM with the lease.
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
    /// No VMs yet, and nothing to settle.
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
    /// No VMs yet, and nothing to settle.
    pub fn new() -> Self {
        Self::default()
    }

    /// The side on which VMs count in this generation.
    pub fn side(&self) -> Side {
        Side::of(self.generation)
    }

    /// Whether both sides may have counts.
    pub fn is_mixed(&self) -> bool {
        !self.settled
    }

    /// The roster's generation. A VM that counts in another generation has to move.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Records that this VM is alive and counts in the current generation.
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

    /// Whether a VM is on the roster. A VM that is not on it is new, or was struck off.
    pub fn has(&self, vm: u64) -> bool {
        self.get(vm).is_some()
    }

    /// Whether a VM has yet to confirm that it counts in this generation.
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

    /// The next step of the VM with the lease.
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

/// How the VM with the lease watches the others.
#[derive(Debug, Default)]
pub struct Watch {
    last_ms: Option<u64>,
    seen: Vec<Seen>,
}

/// The state of a VM since its last heartbeat.
#[derive(Debug)]
struct Seen {
    id: u64,
    beats: u64,
    silence_ms: u64,
}

impl Watch {
    /// Looks at the roster, strikes off silent VMs, and says what to do.
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
