//! Members as discovery found them → members as requests are placed on them: ejected for their
//! failures, and warmed up when they are new or recovered.
//!
//! The VM with the lease judges, and writes what it must remember into shared data, so that the
//! next holder goes on from there. Nothing here reads a clock.

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

/// The state that must outlive the VM that judges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    ejections: Ejections,
    starts: Starts,
}

stored!(Memory { ejections, starts });

/// The result of judging.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The members found, with the state and warmth that count.
    pub members: Vec<Member>,
    /// Ids whose failures in a row are reset to 0.
    pub forgiven: Vec<String>,
    /// Whether the memory changed and must be written.
    pub memory_changed: bool,
}

impl Judge {
    /// A judge without memory.
    pub fn new(settings: &Settings) -> Self {
        Self {
            ejection: settings.ejection,
            slow_start: settings.slow_start,
            memory: Memory::default(),
        }
    }

    /// Adopts the memory of another VM.
    pub fn remember(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// The memory that the next holder of the lease needs.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether time alone can change a verdict, so that members must be judged again soon.
    pub fn is_busy(&self) -> bool {
        !self.memory.ejections.is_empty() || !self.memory.starts.is_empty()
    }

    /// Judges the members that were found. `before` is the directory in force, `None` at the start
    /// of the process. `failures_in_row` returns, by id, an instance's gateway failures since its
    /// last success.
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
