//! A new or recovered instance → how much of its weight counts.
//!
//! The warmth grows in ten steps, so that a slow start changes the ring ten times and not with
//! every look. The instances that a process finds at its own start are not new.

use unitring_routing::membership::{Member, State, Warmth};
use unitring_routing::names::Names;

use crate::directory::Directory;
use crate::settings::SlowStart;
use crate::stored::stored;

/// Steps from the start to full warmth.
const STEPS: u64 = 10;

/// The instances that warm up, and the instances that are going to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Starts {
    starts: Vec<Start>,
}

stored!(Starts { starts });

#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    id: String,
    /// In milliseconds since the Unix epoch; `None` for a new instance that has not served yet.
    since_ms: Option<u64>,
}

stored!(Start { id, since_ms });

impl Starts {
    pub(super) fn is_empty(&self) -> bool {
        self.starts.iter().all(|start| start.since_ms.is_none())
    }

    /// Sets the warmth of each member. Without `before`, the process has just started and no
    /// instance is new.
    pub(super) fn warm_up(
        &mut self,
        settings: &SlowStart,
        members: &mut [Member],
        before: Option<&Directory>,
        now_ms: u64,
    ) {
        let Some(before) = before else {
            let ids = Names::of(members.iter().map(|member| member.id.as_str()));
            self.starts.retain(|start| ids.has(&start.id));
            return;
        };
        let known = Names::of(before.entries().iter().map(|e| e.member.id.as_str()));
        let old = std::mem::take(&mut self.starts);
        let started = Names::of(old.iter().map(|start| start.id.as_str()));
        for member in members {
            let was = known.last(&member.id);
            let was = was.and_then(|at| before.entries().get(at));
            let start = started.last(&member.id).and_then(|at| old.get(at));
            let since_ms = start.and_then(|start| start.since_ms);
            let is_new = since_ms.is_none() && (start.is_some() || was.is_none());
            let since_ms = if member.state == State::Serving {
                let came_back = was.is_some_and(|e| e.served && e.member.state != State::Serving);
                let starts_now = (is_new || came_back).then_some(now_ms);
                let Some(since_ms) = since_ms.or(starts_now) else {
                    continue;
                };
                member.warmth = settings.warmth(now_ms.saturating_sub(since_ms));
                if member.warmth == Warmth::FULL {
                    continue;
                }
                Some(since_ms)
            } else if is_new {
                None
            } else {
                continue;
            };
            self.starts.push(Start {
                id: member.id.clone(),
                since_ms,
            });
        }
    }
}

impl SlowStart {
    fn warmth(&self, elapsed_ms: u64) -> Warmth {
        let window_ms = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        let step = elapsed_ms.saturating_mul(STEPS) / window_ms.max(1);
        let start = u64::from(self.start.percent());
        let percent = start + (100 - start) * step.min(STEPS) / STEPS;
        u8::try_from(percent)
            .ok()
            .and_then(Warmth::new)
            .unwrap_or(Warmth::FULL)
    }
}
