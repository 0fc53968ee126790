//! Samples and keys → the screen. Pure.
//!
//! Invariant: what the companion said last stays on the screen, marked as old once it no longer answers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::{Key, action};
use super::rate::History;
use super::sample::{Sample, View, Want};
use super::state::State;
use super::table::{Table, Tone};
use super::views;
use super::views::events::time;
use crate::log::one_line;

/// For how many intervals, and at least how long, an answer counts as current.
const OLD_AFTER_INTERVALS: u32 = 3;
const OLD_AFTER: Duration = Duration::from_secs(3);
/// Lines above the table, problems first.
const NOTES_MAX: usize = 4;

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) state: State,
    interval: Duration,
    history: History,
    /// The latest answer for each view.
    samples: BTreeMap<View, (Want, Sample)>,
    /// Why the last question has no answer.
    failed: Option<String>,
    /// When the companion last answered.
    answered: Option<Duration>,
    table: Table,
}

/// The content to draw.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    pub(super) state: &'a State,
    /// Unit, role and readiness.
    pub(super) head: (String, Tone),
    /// When the companion answered.
    pub(super) time: String,
    /// Problems, and the view's remarks besides its rows.
    pub(super) notes: Vec<(String, Tone)>,
    pub(super) table: &'a Table,
    /// Whether the data is old, since the companion no longer answers.
    pub(super) is_old: bool,
}

impl Model {
    pub(super) fn new(state: State, interval: Duration) -> Self {
        Self {
            state,
            interval,
            history: History::default(),
            samples: BTreeMap::new(),
            failed: None,
            answered: None,
            table: Table::default(),
        }
    }

    pub(super) fn take(&mut self, asked: &Want, answer: Result<Sample, String>) {
        match answer {
            Ok(sample) => {
                self.failed = None;
                self.answered = Some(sample.at);
                // Units and events have no counters, and would make room for nothing.
                if sample.counts().next().is_some() {
                    let counts = sample.counts();
                    self.history.push(sample.at, self.interval, counts);
                }
                self.samples.insert(asked.view, (asked.clone(), sample));
            }
            Err(why) => self.failed = Some(one_line(&why)),
        }
        self.arrange();
    }

    /// Does what a key means.
    pub(super) fn press(&mut self, key: Key) {
        if let Some(action) = action(key, self.state.mode) {
            self.state.apply(action, &self.table.rows);
            self.arrange();
        }
    }

    fn arrange(&mut self) {
        let want = self.state.want();
        let known = self.samples.get(&want.view);
        // Instances of another service are not shown for this one.
        let known = known.filter(|(asked, _)| asked.service == want.service);
        self.table = match known {
            // Asked with or without shares before: the columns are those of now.
            Some((_, sample)) => views::table(&want, sample, &self.history),
            None => Table {
                title: want.view.name().to_owned(),
                columns: views::columns(want.view, want.has_shares),
                ..Table::default()
            },
        };
        self.table.arrange(&self.state.filter, self.state.sort());
    }

    /// The content to draw at this time.
    pub(super) fn screen(&self, now: Duration) -> Screen<'_> {
        let latest = self.samples.values().max_by_key(|(_, sample)| sample.at);
        let latest = latest.map(|(_, sample)| sample);
        let shown = self.samples.get(&self.state.view).map(|(_, sample)| sample);
        let limit = OLD_AFTER.max(self.interval.saturating_mul(OLD_AFTER_INTERVALS));
        let is_late = self
            .answered
            .is_some_and(|at| now.saturating_sub(at) > limit);
        let is_old = self.failed.is_some() || (is_late && !self.state.is_paused);
        let mut notes = self.unanswered(now, is_late);
        notes.extend(latest.into_iter().flat_map(problems));
        notes.extend(self.table.notes.iter().cloned());
        notes.truncate(NOTES_MAX);
        Screen {
            state: &self.state,
            head: latest.map_or_else(|| ("no answer yet".to_owned(), Tone::Warn), head),
            time: shown.map_or_else(String::new, |sample| time(sample.at_ms)),
            notes,
            table: &self.table,
            is_old,
        }
    }

    /// Since when nothing is new, and why, as far as it is known.
    fn unanswered(&self, now: Duration, is_late: bool) -> Vec<(String, Tone)> {
        let why = match &self.failed {
            Some(why) => why.as_str(),
            None if is_late && !self.state.is_paused => "no answer yet",
            None => return Vec::new(),
        };
        let text = match self.answered {
            Some(at) => {
                let age = now.saturating_sub(at).as_secs();
                format!("last answered {age} s ago: {why}")
            }
            None => why.to_owned(),
        };
        vec![(text, Tone::Bad)]
    }
}

fn head(sample: &Sample) -> (String, Tone) {
    let ready = &sample.ready;
    let (word, tone) = match ready.ready {
        true => ("ready", Tone::Good),
        false => ("not ready", Tone::Bad),
    };
    let text = format!("unit {}, {}, {word}", ready.unit, ready.role);
    (one_line(&text), tone)
}

/// The problems of the unit.
fn problems(sample: &Sample) -> Vec<(String, Tone)> {
    let checks = sample
        .ready
        .checks
        .iter()
        .filter(|(_, state)| !state.is_ok());
    let mut lines: Vec<String> = checks
        .map(|(name, state)| format!("{name}: {state}"))
        .collect();
    let mut wiring = sample.ready.wiring.iter();
    if let Some(first) = wiring.next() {
        let more = match wiring.len() {
            0 => String::new(),
            more => format!(" (and {more} more: unitring status names them)"),
        };
        lines.push(format!("{first}{more}"));
    }
    let bad = |line: &String| (one_line(line), Tone::Bad);
    lines.iter().map(bad).collect()
}

#[cfg(test)]
mod tests;
