//! Members as they were found → members as requests are placed on them: ejected for what they
//! answer, and warmed up when they come (back).
//!
//! One VM of the process judges, the one with the lease, and writes down what it must remember in
//! shared data, so that the next holder goes on from there. Nothing here asks the clock.

mod ejection;
mod slow_start;

use unitring_routing::membership::{Cause, Member, State};

use crate::directory::Directory;
use crate::settings::{Ejection, Settings, SlowStart};
use crate::stored::stored;
use ejection::Ejections;
use slow_start::Starts;

/// Judges the members of one service.
#[derive(Debug)]
pub struct Judge {
    ejection: Option<Ejection>,
    slow_start: Option<SlowStart>,
    memory: Memory,
}

/// What must outlive the VM that judges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    ejections: Ejections,
    starts: Starts,
}

stored!(Memory { ejections, starts });

/// What was judged.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The members found, with health and warmth as they count.
    pub members: Vec<Member>,
    /// Ids whose failures in a row start again at none.
    pub forgiven: Vec<String>,
    /// Whether there is something new to remember.
    pub memory_changed: bool,
}

impl Judge {
    /// Remembers nothing yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            ejection: settings.ejection,
            slow_start: settings.slow_start,
            memory: Memory::default(),
        }
    }

    /// Goes on from what another VM remembered.
    pub fn remember(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// What the next holder of the lease must know.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether time alone can change a verdict, so that it must be judged again soon.
    pub fn is_busy(&self) -> bool {
        !self.memory.ejections.is_empty() || !self.memory.starts.is_empty()
    }

    /// Judges what was found. `before` is what is in force, `None` at the very start;
    /// `failures_in_row` tells, by id, the gateway failures of an instance since its last success.
    pub fn judge(
        &mut self,
        found: &[Member],
        before: Option<&Directory>,
        failures_in_row: impl Fn(&str) -> u64,
        now_ms: u64,
    ) -> Verdict {
        let old = self.memory.clone();
        let mut members = found.to_vec();
        let mut forgiven = Vec::new();
        if let Some(settings) = &self.ejection {
            let look = self
                .memory
                .ejections
                .look(settings, found, failures_in_row, now_ms);
            for (member, is_out) in members.iter_mut().zip(look.is_out) {
                if is_out && member.state == State::Serving {
                    member.state = State::Failed(Cause::GatewayFailures);
                }
            }
            forgiven = look.forgiven;
        }
        if let Some(settings) = &self.slow_start {
            let starts = &mut self.memory.starts;
            starts.warm_up(settings, &mut members, before, now_ms);
        }
        Verdict {
            members,
            forgiven,
            memory_changed: self.memory != old,
        }
    }
}

#[cfg(test)]
mod tests;
