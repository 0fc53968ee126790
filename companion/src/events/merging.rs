//! Merges events into entries of the log: an ejection that a thousand Envoys report is one entry, with the number of
//! its observers. Pure.
//!
//! An event is counted with an entry that is equal to it (same service, instance, kind, reason and kind of observer) if
//! all that the entry has then lies within [`WINDOW_MS`] by the clocks of the observers, and no contrary event of the
//! instance lies within it. Otherwise it becomes an entry of its own. So each change from one state to the other has its
//! entry, whatever the order of arrival, and [`super::Event::last_at_ms`] says up to when it was seen.
//!
//! Each Envoy may eject an instance and let it back by its own observations; then the events of many Envoys alternate. Once
//! the last [`LATEST_MAX`] entries of an instance lie within [`WINDOW_MS`], it is unsettled: then an event is also counted
//! across contrary ones, with an entry that it lies within [`UNSETTLED_MS`] of. So each state has an entry a second, and
//! not one for each Envoy.
//!
//! The embedded store calls [`Latest`]; `event_log.lua` does the same in Redis, and the contract tests hold both together.

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use unitring_protocol::report::EventKind;

use super::Event;

/// The time that the events of an entry lie within. Envoys notice a change within a few seconds of each other: they look
/// once per second, and check health every few seconds.
pub(crate) const WINDOW_MS: u64 = 10_000;
/// The entries of an instance that further events may be counted with.
pub(crate) const LATEST_MAX: usize = 16;
/// The time that the events of an entry lie within while an instance is unsettled: as often as Envoys look.
pub(crate) const UNSETTLED_MS: u64 = 1_000;

/// The kinds of events that end the state which an event of this kind reports.
pub(crate) fn undone_by(kind: EventKind) -> &'static [EventKind] {
    match kind {
        EventKind::Added => &[EventKind::Removed],
        EventKind::Removed => &[EventKind::Added],
        EventKind::Ejected => &[EventKind::Recovered, EventKind::Removed],
        EventKind::Recovered | EventKind::Warmed => &[EventKind::Ejected, EventKind::Removed],
        EventKind::Overloaded => &[EventKind::Relieved, EventKind::Removed],
        EventKind::Relieved => &[EventKind::Overloaded, EventKind::Removed],
    }
}

/// The fields of an event that decide in which entry it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sketch {
    /// When it happened, by its observer's clock.
    pub at_ms: u64,
    pub kind: EventKind,
    /// Equal for equal events of an instance.
    pub print: u64,
}

impl Sketch {
    pub(crate) fn of(event: &Event) -> Self {
        let observer = match (&event.reporter, &event.unit) {
            (Some(_), _) => "reporter",
            (None, Some(unit)) => unit.as_str(),
            (None, None) => "",
        };
        // No kind, unit or name of an observer has a line break.
        let text = format!("{:?}\n{observer}\n{}", event.kind, event.reason);
        let hash = Sha1::digest(text.as_bytes());
        let first = hash.iter().take(8);
        let print = first.fold(0, |print, byte| print << 8 | u64::from(*byte));
        Self {
            at_ms: event.at_ms,
            kind: event.kind,
            print,
        }
    }
}

/// An entry that further events may be counted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Its number in the log.
    pub number: u64,
    /// The earliest of its events.
    pub first_ms: u64,
    /// The latest of its events.
    pub last_ms: u64,
    kind: EventKind,
    print: u64,
}

impl Counted {
    /// Whether it has events that are equal to this one.
    fn is_equal(&self, event: &Sketch) -> bool {
        self.kind == event.kind && self.print == event.print
    }

    /// Its time with this event.
    fn with(&self, event: &Sketch) -> (u64, u64) {
        (
            self.first_ms.min(event.at_ms),
            self.last_ms.max(event.at_ms),
        )
    }

    /// Whether the kind is contrary, and an event of it may lie in this time.
    fn undoes(&self, kind: EventKind, (from_ms, to_ms): (u64, u64)) -> bool {
        undone_by(kind).contains(&self.kind) && self.first_ms <= to_ms && from_ms <= self.last_ms
    }
}

/// The latest entries of an instance, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latest {
    entries: Vec<Counted>,
    /// The latest event of the entries that are no longer here. Since it may be contrary, nothing is counted with
    /// entries that reach back to it.
    forgotten_ms: Option<u64>,
}

impl Latest {
    /// Counts an event with the latest entry that may have it, and returns that entry; `None` if it needs an entry of
    /// its own. `is_there` says whether the log still has an entry of this number.
    pub(crate) fn count(
        &mut self,
        event: &Sketch,
        is_there: impl Fn(u64) -> bool,
    ) -> Option<Counted> {
        let may_have = |entry: &Counted| {
            let (from_ms, to_ms) = entry.with(event);
            entry.is_equal(event)
                && to_ms - from_ms <= WINDOW_MS
                && !self.is_undone(event.kind, (from_ms, to_ms))
                && is_there(entry.number)
        };
        let is_unsettled = self.is_unsettled(event);
        let is_close = |entry: &Counted| {
            let (from_ms, to_ms) = entry.with(event);
            let is_close = entry.is_equal(event) && to_ms - from_ms <= UNSETTLED_MS;
            is_unsettled && is_close && is_there(entry.number)
        };
        let at = self.entries.iter().rposition(may_have);
        let at = at.or_else(|| self.entries.iter().rposition(is_close))?;
        let entry = self.entries.get_mut(at)?;
        (entry.first_ms, entry.last_ms) = entry.with(event);
        Some(*entry)
    }

    /// Whether a contrary event may lie within this time.
    fn is_undone(&self, kind: EventKind, time: (u64, u64)) -> bool {
        self.forgotten_ms
            .is_some_and(|forgotten| forgotten >= time.0)
            || self.entries.iter().any(|entry| entry.undoes(kind, time))
    }

    /// Whether [`LATEST_MAX`] entries lie close to the event.
    fn is_unsettled(&self, event: &Sketch) -> bool {
        let is_near = |entry: &Counted| entry.first_ms.abs_diff(event.at_ms) <= WINDOW_MS;
        self.entries.len() >= LATEST_MAX && self.entries.iter().all(is_near)
    }

    /// Takes in a new entry.
    pub(crate) fn add(&mut self, event: &Sketch, number: u64) {
        self.entries.push(Counted {
            number,
            first_ms: event.at_ms,
            last_ms: event.at_ms,
            kind: event.kind,
            print: event.print,
        });
        if self.entries.len() > LATEST_MAX {
            let gone = self.entries.remove(0);
            self.forgotten_ms = self.forgotten_ms.max(Some(gone.last_ms));
        }
    }

    /// The number of the latest entry.
    pub(crate) fn last_number(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.number)
    }
}

#[cfg(test)]
mod tests;
