//! The effects of a unit's machine, and their answers.

use unitring_protocol::record::Version;

use super::super::{Effect, Input};
use super::faults::Faults;
use super::world::{STEP_MS, World};
use crate::replica::epoch;
use crate::store::Batch;

impl World {
    pub(super) fn perform(&mut self, at: usize, effect: Effect, faults: Faults) {
        let is_away = self.dice.hits(faults.store_away);
        let wall_ms = self.wall_ms(at);
        let present = |input| (!is_away).then_some(input);
        let id = self.nodes[at].id.clone();
        let store = &mut self.nodes[at].store;
        let answer = match effect {
            Effect::Count => Input::Counted(present(()).map(|()| store.waiting())),
            Effect::ReadCursors => Input::CursorsRead(present(()).map(|()| store.cursors())),
            Effect::ReadOutboxes(asked) => {
                Input::OutboxesRead(present(()).map(|()| store.outboxes(&asked)))
            }
            Effect::Confirm(unit, cursors, members) => {
                if !is_away {
                    store.confirm(&unit, &cursors, &members);
                }
                Input::Confirmed(unit, !is_away)
            }
            Effect::Shorten(keep) => {
                present(()).into_iter().for_each(|()| store.shorten(&keep));
                Input::Shortened
            }
            Effect::Apply(parts) => {
                let applied = present(()).and_then(|()| store.apply(&parts, wall_ms));
                if applied.is_some() {
                    self.spread.extend(versions(&parts));
                }
                Input::Applied(applied)
            }
            Effect::ReadStates(purpose) => {
                let states = present(()).map(|()| (epoch(wall_ms), store.states(wall_ms)));
                Input::States(purpose, states)
            }
            Effect::ReadPage(bucket, page) => {
                Input::PageRead(present(()).map(|()| store.page(bucket, page)))
            }
            Effect::Collect(bucket, before_ms, fence) => {
                return store.collect(bucket, before_ms, &fence);
            }
            Effect::Publish {
                id: message,
                to,
                lasts,
                body,
            } => {
                for peer in to {
                    let taken = self.publish(&id, &peer, lasts, &body, faults);
                    self.answer(at, Input::Published(peer, message, taken), faults);
                }
                return;
            }
            Effect::Ack(tag) | Effect::SetAside(tag, _) => {
                self.nodes[at].unacked.remove(&tag);
                return;
            }
            Effect::Note(note, count) => {
                *self.notes.entry(note).or_default() += count;
                return;
            }
            Effect::Skew(unit, skew_ms) => {
                self.skews.insert((id, unit), skew_ms);
                return;
            }
            Effect::Unsendable(..) | Effect::Oversized(..) => return,
            Effect::Recount(bucket) => return store.recount(bucket, wall_ms),
            Effect::Namesake(unit) => {
                self.namesakes.insert(unit);
                return;
            }
            Effect::Aside(unit, record, _) => {
                self.aside.insert((unit, record));
                return;
            }
            Effect::Compared(..) | Effect::Done(_) | Effect::Heard(..) => return,
        };
        self.answer(at, answer, faults);
    }

    /// Some answers take their time, and overtake each other.
    pub(super) fn answer(&mut self, at: usize, answer: Input, faults: Faults) {
        if self.dice.hits(faults.late) {
            let due_ms = self.now_ms + self.dice.roll(10) * STEP_MS;
            self.nodes[at].later.push((due_ms, answer));
        } else {
            self.nodes[at].inbox.push_back(answer);
        }
    }
}

fn versions(parts: &[(u8, Batch)]) -> impl Iterator<Item = Version> {
    let of = |batch: &Batch| -> Vec<Version> {
        match batch {
            Batch::Ops { ops, .. } => ops.iter().map(|op| op.record.version.clone()).collect(),
            Batch::Records { records, .. } => records
                .iter()
                .map(|record| record.version.clone())
                .collect(),
        }
    };
    parts.iter().flat_map(move |(_, batch)| of(batch))
}
