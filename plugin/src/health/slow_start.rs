//! An instance that comes, or comes back, → how much of its weight counts.
//!
//! The warmth grows in ten steps, so that a slow start changes the ring ten times and not with every
//! look. What a process finds at its own start is not new to anybody.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unitring_routing::membership::{Member, State, Warmth};

use crate::directory::Directory;
use crate::settings::SlowStart;

/// Steps from the start to full warmth.
const STEPS: u64 = 10;

/// Who warms up, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Starts {
    /// Since when, in milliseconds since the Unix epoch.
    since_ms: BTreeMap<String, u64>,
    /// Who is new and has not served yet.
    awaited: BTreeSet<String>,
}

impl Starts {
    pub(super) fn is_empty(&self) -> bool {
        self.since_ms.is_empty()
    }

    /// Sets the warmth of each.
    pub(super) fn warm_up(
        &mut self,
        settings: &SlowStart,
        members: &mut [Member],
        before: Option<&Directory>,
        now_ms: u64,
    ) {
        let ids: BTreeSet<&str> = members.iter().map(|member| member.id.as_str()).collect();
        self.since_ms.retain(|id, _| ids.contains(id.as_str()));
        self.awaited.retain(|id| ids.contains(id.as_str()));
        let Some(before) = before else {
            return;
        };
        let known: BTreeMap<&str, (State, bool)> = before
            .entries()
            .iter()
            .map(|entry| (entry.member.id.as_str(), (entry.member.state, entry.served)))
            .collect();
        for member in members {
            let id = member.id.as_str();
            let was = known.get(id).copied();
            if was.is_none() && !self.since_ms.contains_key(id) {
                self.awaited.insert(id.to_owned());
            }
            if member.state != State::Serving {
                self.since_ms.remove(id);
                continue;
            }
            let came_back = was.is_some_and(|(state, served)| served && state != State::Serving);
            if self.awaited.remove(id) || came_back {
                self.since_ms.entry(id.to_owned()).or_insert(now_ms);
            }
            let Some(since_ms) = self.since_ms.get(id).copied() else {
                continue;
            };
            member.warmth = settings.warmth(now_ms.saturating_sub(since_ms));
            if member.warmth == Warmth::FULL {
                self.since_ms.remove(id);
            }
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
