//! The state machine of a unit's sync. Pure: `input, moment → effects`; no clock, no socket, no
//! randomness. `sync/session.rs` carries both, on the companion that leads its unit.
//!
//! Invariants:
//! - an op leaves the outbox only after the broker confirmed a message with it for every member, or
//!   to keep the outbox in its bound: then the readers are notified, and ask for a repair;
//! - a delivery is acknowledged only after the store applied it;
//! - loss, repetition and reordering in between show in the digests, and a repair heals them;
//! - a tombstone is collected only when no member can bring back the record that it deleted.
//!
//! # Layout
//!
//! | module | arrow |
//! |---|---|
//! | `vocabulary` | inputs and effects |
//! | [`message`] | bytes ⇄ envelope, with its rules |
//! | [`outgoing`] | outbox → messages → confirms → cursors, link by link |
//! | [`incoming`] | deliveries → batches → acknowledgement |
//! | [`compare`] | the peers' digests and ours → what differs |
//! | [`repair`] | requested buckets → records |
//! | [`collect`] | positions of all members → tombstones that may be collected |
//! | `parcels` | fixed data → messages, one after the other |
//! | `sending` | any other message → the units whose brokers take it |
//! | `namesakes` | identities of stores → two units of one name |
//! | [`skew`] | when digests were sent and received → how far clocks are apart |

pub(crate) mod collect;
pub(crate) mod compare;
pub(crate) mod incoming;
pub(crate) mod message;
mod namesakes;
pub(crate) mod outgoing;
mod parcels;
pub(crate) mod repair;
mod sending;
#[cfg(test)]
mod simulation;
pub(crate) mod skew;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::{Body, Envelope, FixedState};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Record;

use crate::replica::bounds::{Fault, ahead};
use crate::store::{Applied, Batch, Held};
use collect::Collect;
use compare::Compare;
use incoming::Incoming;
use namesakes::Namesakes;
use outgoing::Outgoing;
use parcels::Parcels;
use repair::Repairs;
use skew::Skews;
pub(crate) use vocabulary::{Effect, Input, Lasts, MessageId, Moment, Note, Purpose, Rules, Tag};

/// How often the outboxes are counted, which also finds ops that no hint reported.
pub(crate) const COUNT_EVERY_MS: u64 = 1_000;
/// The pause before a retry.
pub(crate) const RETRY_MS: u64 = 500;

/// The state of a unit's sync.
#[derive(Debug)]
pub(crate) struct Machine {
    unit: UnitId,
    rules: Rules,
    members: BTreeSet<UnitId>,
    last_message: MessageId,
    outgoing: Outgoing,
    incoming: Incoming,
    compare: Compare,
    repairs: Repairs,
    collect: Collect,
    skews: Skews,
    namesakes: Namesakes,
    parcels: Parcels,
    /// The kinds of messages that are too large for a unit's broker.
    oversized: BTreeSet<(UnitId, &'static str)>,
    store: Option<u64>,
    fixed: Option<FixedState>,
    count_at_ms: u64,
    tell_at_ms: u64,
}

impl Machine {
    /// The sync of this unit with these peers; no link is up yet. A change of members needs a new
    /// machine.
    pub(crate) fn new(unit: UnitId, peers: BTreeSet<UnitId>, rules: Rules) -> Self {
        let interval_ms = rules.digest_interval_ms;
        Self {
            outgoing: Outgoing::new(&peers, rules.outbox_max),
            compare: Compare::new(unit.clone(), interval_ms),
            collect: Collect::new(unit.clone(), rules.keep_ms, interval_ms),
            repairs: Repairs::new(rules.repair_rate),
            incoming: Incoming::default(),
            skews: Skews::default(),
            members: peers,
            unit,
            rules,
            last_message: 0,
            namesakes: Namesakes::default(),
            parcels: Parcels::default(),
            oversized: BTreeSet::new(),
            store: None,
            fixed: None,
            count_at_ms: 0,
            tell_at_ms: 0,
        }
    }

    /// How many ops the broker has confirmed for each peer: the sums of its cursors.
    pub(crate) fn confirmed(&self) -> BTreeMap<UnitId, u64> {
        self.outgoing.sent()
    }

    /// Takes an input; returns the effects to perform.
    pub(crate) fn handle(&mut self, input: Input, moment: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        let now_ms = moment.now_ms;
        match input {
            Input::LinkUp(unit) => {
                self.outgoing.link_up(&unit);
                // The count finds every outbox with ops: the sweep after a reconnect.
                self.count_at_ms = now_ms;
            }
            Input::LinkDown(unit) => {
                self.outgoing.link_down(&unit);
                self.repairs.link_down(&unit);
                self.parcels.link_down(&unit);
            }
            Input::Limit(unit, bytes) => self.outgoing.limit_known(&unit, bytes),
            Input::InboxDown => self.incoming.inbox_down(),
            Input::Written(buckets) => self.outgoing.dirty(&buckets),
            Input::Counted(waiting) => {
                if let Some(waiting) = waiting {
                    self.outgoing.counted(&waiting, &mut effects);
                }
            }
            Input::CursorsRead(cursors) => self.outgoing.cursors(cursors, now_ms),
            Input::OutboxesRead(read) => {
                let last = &mut self.last_message;
                let next = || {
                    *last += 1;
                    *last
                };
                self.outgoing.read(read, now_ms, next, &mut effects);
            }
            Input::Confirmed(unit, done) => self.outgoing.stored(&unit, done, now_ms),
            Input::Shortened => self.outgoing.shortened(),
            Input::Published(unit, id, confirmed) => {
                if !confirmed {
                    effects.push(Effect::Note(Note::PublishesFailed, 1));
                }
                self.outgoing
                    .published(&unit, id, confirmed, now_ms, &mut effects);
                self.repairs.published(id, confirmed, now_ms);
                if self.parcels.published(&unit, id, confirmed) {
                    self.send_next(&unit, &mut effects);
                }
            }
            Input::Delivered(tag, envelope) => {
                self.delivered(tag, envelope, moment, &mut effects);
            }
            Input::Applied(applied) => self.applied(applied, now_ms, &mut effects),
            Input::States(purpose, states) => self.states(purpose, states, moment, &mut effects),
            Input::PageRead(page) => {
                let id = self.next_message();
                let links = &mut self.outgoing;
                self.repairs
                    .page_read(page, id, (links, moment), &mut effects);
            }
            Input::Tell(body, lasts_ms) => self.tell(body, lasts_ms, &mut effects),
            Input::Send(unit, bodies) => self.send_all(&unit, bodies, &mut effects),
            Input::Fixed(fixed) => self.fixed_is(fixed, &mut effects),
            Input::Identity(store) => self.store = Some(store),
            Input::Tick => {}
        }
        self.go_on(now_ms, &mut effects);
        effects
    }

    /// Starts the work that is due, after any input.
    fn go_on(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.count_at_ms <= now_ms {
            self.count_at_ms = now_ms + COUNT_EVERY_MS;
            effects.push(Effect::Count);
        }
        self.incoming.go_on(now_ms, effects);
        let last = &mut self.last_message;
        let next = || {
            *last += 1;
            *last
        };
        let links = &mut self.outgoing;
        self.repairs.go_on(links, now_ms, next, effects);
        self.outgoing.go_on(now_ms, effects);
        if self.tell_at_ms <= now_ms {
            self.tell_at_ms = now_ms + self.rules.digest_interval_ms;
            effects.push(Effect::ReadStates(Purpose::Tell));
        }
    }

    fn next_message(&mut self) -> MessageId {
        self.last_message += 1;
        self.last_message
    }

    fn delivered(
        &mut self,
        tag: Tag,
        envelope: Envelope,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Envelope { from, body, .. } = envelope;
        if !self.members.contains(&from) {
            effects.push(Effect::SetAside(tag, from));
            return;
        }
        match body {
            Body::Ops { parts } => self.ops(tag, &from, parts, moment, effects),
            Body::Repair(repair) => {
                if repair.is_last && self.compare.repaired(&from, repair.bucket) {
                    effects.push(Effect::ReadStates(Purpose::Compare));
                }
                effects.extend(of_the_future(&from, &repair.records, moment));
                let batch = Batch::Records {
                    records: repair.records,
                    positions: repair.positions,
                    clock: repair.clock,
                    is_last: repair.is_last,
                };
                self.incoming.push(tag, vec![(repair.bucket, batch)]);
            }
            Body::Digests {
                sent_ms,
                epoch,
                echoes,
                fixed,
                store,
                buckets,
                ..
            } => {
                // Acknowledged at once: digests that get lost are replaced by the next ones.
                effects.push(Effect::Ack(tag));
                let echo = echoes.iter().find(|echo| echo.unit == self.unit);
                let skew = self.skews.heard(&from, sent_ms, echo, moment.wall_ms);
                effects.extend(skew.map(|skew_ms| Effect::Skew(from.clone(), skew_ms)));
                self.outgoing.knows_passed(&from, store.is_some());
                if store.is_some_and(|store| self.namesakes.heard(&from, store, moment.now_ms)) {
                    effects.push(Effect::Namesake(from.clone()));
                }
                if fixed > self.fixed {
                    self.send(from.clone(), Body::FixedRequest {}, effects);
                }
                if self.compare.heard(from, epoch, buckets, moment.now_ms) {
                    effects.push(Effect::ReadStates(Purpose::Compare));
                }
            }
            Body::RepairRequest { buckets } => {
                // If this process dies before it answers, the requester asks again.
                effects.push(Effect::Ack(tag));
                let dropped = self.repairs.asked(&from, &buckets);
                effects.push(Effect::Note(Note::RepairsDropped, dropped));
            }
            // A peer asks again with each digest until it has them.
            Body::FixedRequest {} if self.parcels.is_sending(&from) => {
                effects.push(Effect::Ack(tag));
            }
            body @ (Body::FixedRequest {}
            | Body::Fixed(_)
            | Body::Loads { .. }
            | Body::Events { .. }) => {
                effects.push(Effect::Ack(tag));
                effects.push(Effect::Heard(from, body));
            }
        }
    }

    fn ops(
        &mut self,
        tag: Tag,
        from: &UnitId,
        parts: Vec<unitring_protocol::envelope::Part>,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let now_ms = moment.now_ms;
        let records = parts.iter().flat_map(|part| &part.ops).map(|op| &op.record);
        effects.extend(of_the_future(from, records, moment));
        self.compare.ops_from(from, now_ms);
        let ops = parts.iter().map(|part| count(part.ops.len())).sum();
        effects.push(Effect::Note(Note::OpsReceived, ops));
        let skipped = parts.iter().filter(|part| part.skipped);
        let skipped: BTreeSet<u8> = skipped.map(|part| part.bucket).collect();
        if !skipped.is_empty() {
            effects.push(Effect::Note(Note::Skipped, count(skipped.len())));
            let buckets = self.compare.asks(from, &skipped, now_ms);
            if !buckets.is_empty() {
                self.send(from.clone(), Body::RepairRequest { buckets }, effects);
            }
        }
        let parts = parts.into_iter().map(|part| {
            let batch = Batch::Ops {
                origin: from.clone(),
                incarnation: part.incarnation,
                ops: part.ops,
                passed: part.passed,
            };
            (part.bucket, batch)
        });
        self.incoming.push(tag, parts.collect());
    }

    fn applied(&mut self, applied: Option<Vec<Applied>>, now_ms: u64, effects: &mut Vec<Effect>) {
        let parts = self.incoming.applied(applied, now_ms, effects);
        if !parts.is_empty() {
            effects.push(Effect::Done(parts));
        }
    }

    fn states(
        &mut self,
        purpose: Purpose,
        states: Option<(u64, Vec<Held>)>,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) {
        match purpose {
            Purpose::Tell => {
                let Some((epoch, states)) = states else {
                    return;
                };
                let (members, compare) = (&self.members, &self.compare);
                self.collect
                    .look(members, &states, compare, moment, effects);
                let body = Body::Digests {
                    sent_ms: moment.wall_ms,
                    interval_ms: Some(self.rules.digest_interval_ms),
                    epoch,
                    echoes: self.skews.echoes(),
                    fixed: self.fixed.clone(),
                    store: self.store,
                    buckets: states.into_iter().map(|held| held.state).collect(),
                };
                self.tell(body, self.rules.digest_interval_ms, effects);
            }
            Purpose::Compare => {
                let states = states.as_ref();
                let states = states.map(|(epoch, states)| (*epoch, states.as_slice()));
                for (from, buckets) in self.compare.compare(states, moment.now_ms, effects) {
                    self.send(from, Body::RepairRequest { buckets }, effects);
                }
            }
            Purpose::Repair => {
                let states = states.map(|(_, states)| states);
                self.repairs.states_read(states, moment.now_ms, effects);
            }
        }
    }
}

/// Names changes with a clock in the future, which the store does not take.
fn of_the_future<'a>(
    from: &UnitId,
    records: impl IntoIterator<Item = &'a Record>,
    moment: Moment,
) -> Vec<Effect> {
    let aside = records.into_iter().filter_map(|record| {
        let ahead_ms = ahead(record.version.clock.ms, moment.wall_ms)?;
        Some(Effect::Aside(
            from.clone(),
            record.id.clone(),
            Fault::Ahead(ahead_ms),
        ))
    });
    aside.collect()
}

/// A length as a counter's increment.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
