//! The effects of a unit's machine, and their answers.

use unitring_protocol::digest::Digest;
use unitring_protocol::envelope::Body;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Record, Version};

use super::super::{Effect, Input, Lasts, MessageId, Purpose};
use super::broken::Broken;
use super::conflicts::Expected;
use super::faults::Faults;
use super::world::{STEP_MS, World};
use crate::replica::digest::bucket_of;
use crate::replica::epoch;
use crate::store::{Applied, Batch, Held};

impl World {
    pub(super) fn perform(&mut self, at: usize, effect: Effect, faults: Faults) {
        let is_away = self.is_away(at, &effect, faults);
        let wall_ms = self.wall_ms(at);
        let broken = self.broken;
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
                let members = match broken {
                    Broken::AllLinks => vec![unit.clone()],
                    _ => members,
                };
                if !is_away {
                    store.confirm(&unit, &cursors, &members);
                }
                Input::Confirmed(unit, !is_away)
            }
            Effect::Shorten(keep) => {
                present(()).into_iter().for_each(|()| store.shorten(&keep));
                Input::Shortened
            }
            Effect::Apply(parts) => Input::Applied(self.apply(at, &parts, is_away, wall_ms)),
            Effect::ReadStates(purpose) => {
                if purpose == Purpose::Tell {
                    self.collect_alone(at);
                }
                let store = &self.nodes[at].store;
                let states = present(()).map(|()| (epoch(wall_ms), store.states(wall_ms)));
                let states = states.map(|(epoch, held)| (epoch, without_digests(held, broken)));
                Input::States(purpose, states)
            }
            Effect::ReadPage(bucket, page) => {
                Input::PageRead(present(()).map(|()| store.page(bucket, page)))
            }
            Effect::Publish {
                id: message,
                to,
                lasts,
                body,
            } => return self.publish_all(at, message, (&to, lasts), body, faults),
            effect => return self.note(at, &id, effect, wall_ms),
        };
        self.answer(at, answer, faults);
    }

    /// Effects without an answer.
    fn note(&mut self, at: usize, id: &UnitId, effect: Effect, wall_ms: u64) {
        let store = &mut self.nodes[at].store;
        match effect {
            Effect::Collect(..) if self.broken == Broken::Rounds => {}
            Effect::Collect(bucket, before_ms, fence) => store.collect(bucket, before_ms, &fence),
            Effect::Recount(_) if self.broken == Broken::Recount => {}
            Effect::Recount(bucket) => store.recount(bucket, wall_ms),
            Effect::Ack(tag) => {
                self.nodes[at].unacked.remove(&tag);
            }
            Effect::SetAside(tag, from) => {
                self.nodes[at].unacked.remove(&tag);
                self.tell_removed(at, &from);
            }
            Effect::Note(note, count) => *self.notes.entry(note).or_default() += count,
            Effect::Skew(unit, skew_ms) => {
                self.skews.insert((id.clone(), unit), skew_ms);
            }
            Effect::Namesake(unit) => {
                self.namesakes.insert(unit);
            }
            Effect::Aside(unit, record, _) => {
                self.aside.insert((unit, record));
            }
            _ => {}
        }
    }

    /// Whether the store of a unit does not answer. A calm one answers at the second attempt.
    fn is_away(&mut self, at: usize, effect: &Effect, faults: Faults) -> bool {
        let is_away = self.dice.hits(faults.store_away);
        let was_away = &mut self.nodes[at].was_away;
        let what = std::mem::discriminant(effect);
        if !faults.is_calm {
            return is_away;
        }
        if is_away && was_away.insert(what) {
            return true;
        }
        was_away.remove(&what);
        false
    }

    /// Applies batches, and checks which conflicts are listed.
    fn apply(
        &mut self,
        at: usize,
        parts: &[(u8, Batch)],
        is_away: bool,
        wall_ms: u64,
    ) -> Option<Vec<Applied>> {
        if is_away {
            let applied = vec![Applied::default(); parts.len()];
            return (self.broken == Broken::Applied).then_some(applied);
        }
        let store = &mut self.nodes[at].store;
        if store.refuses(parts) {
            return None;
        }
        let mut all = Vec::with_capacity(parts.len());
        for part in parts {
            if !is_of_its_bucket(part) {
                let why = format!("{}: records of another bucket: {part:?}", self.nodes[at].id);
                self.wrong.get_or_insert(why);
            }
            let store = &mut self.nodes[at].store;
            let expected = Expected::of(&self.history, store, part, wall_ms);
            let applied = store.apply(part.0, &part.1, wall_ms);
            self.history.applied(store, part);
            if let Err(why) = expected.check(&self.history, store, applied) {
                self.wrong.get_or_insert(why);
            }
            all.push(applied);
        }
        self.spread.extend(versions(parts));
        Some(all)
    }

    fn publish_all(
        &mut self,
        at: usize,
        message: MessageId,
        (to, lasts): (&[UnitId], Lasts),
        mut body: Body,
        faults: Faults,
    ) {
        if let Body::Digests { echoes, store, .. } = &mut body {
            match self.broken {
                Broken::Digests => return,
                Broken::Echo => echoes.clear(),
                Broken::Identity => *store = None,
                _ => {}
            }
        }
        for peer in to {
            let taken = self.publish(at, peer, lasts, &body, faults);
            self.answer(at, Input::Published(peer.clone(), message, taken), faults);
        }
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

fn is_of_its_bucket((number, batch): &(u8, Batch)) -> bool {
    let is_here = |record: &Record| bucket_of(&record.id) == *number;
    match batch {
        Batch::Ops { ops, .. } => ops.iter().all(|op| is_here(&op.record)),
        Batch::Records { records, .. } => records.iter().all(is_here),
    }
}

fn without_digests(mut held: Vec<Held>, broken: Broken) -> Vec<Held> {
    if broken == Broken::Diverged {
        held.iter_mut()
            .for_each(|held| held.state.digest = Digest::default());
    }
    held
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
