//! The state machine of a unit's sync. Pure: `input, moment → effects`; no clock, no socket, no
//! randomness. [`session`](super::session) carries both, on the companion that leads its unit.
//!
//! Invariants:
//! - an op leaves the outbox only after the broker confirmed a message with it for every member, or to
//!   keep the outbox in its bound: then the readers are told, and repair;
//! - a delivery is acknowledged only after the store applied it;
//! - whatever is lost, repeated or reordered in between, digests find it and repair brings it;
//! - a tombstone is forgotten only when no member can bring back what it deleted.
//!
//! # Layout
//!
//! | module | arrow |
//! |---|---|
//! | [`message`] | bytes ⇄ envelope, with its rules |
//! | [`outgoing`] | outbox → messages → confirms → cursors, link by link |
//! | [`incoming`] | deliveries → batches → acknowledgement |
//! | [`compare`] | their digests and ours → what differs |
//! | [`repair`] | what was asked for → records |
//! | [`collect`] | positions of all → tombstones that may be forgotten |
//! | [`skew`] | when digests were sent and heard → how far clocks are apart |

pub mod collect;
pub mod compare;
pub mod incoming;
pub mod message;
pub mod outgoing;
pub mod repair;
#[cfg(test)]
mod simulation;
pub mod skew;

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::{Body, Envelope, FixedState};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, Record, RecordId};

use crate::replica::bounds::{Fault, ahead};
use crate::store::{Applied, Backlog, Batch, Cursors, Held, Page, Waiting};
use collect::Collect;
use compare::{Compare, Comparison};
use incoming::Incoming;
use outgoing::Outgoing;
use repair::Repairs;
use skew::Skews;

/// How often the outboxes are counted; a bucket with ops that nobody told of is found then.
pub const COUNT_EVERY_MS: u64 = 1_000;
/// The pause before something is tried again.
pub const RETRY_MS: u64 = 500;

/// Names a delivery until it is acknowledged.
pub type Tag = u64;
/// Names a message until it is confirmed.
pub type MessageId = u64;

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// For timers: it never goes back.
    pub now_ms: u64,
    /// What the clock on the wall shows, in ms since the Unix epoch.
    pub wall_ms: u64,
}

/// By what a unit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How often digests are told.
    pub digest_interval_ms: u64,
    /// How long tombstones and expired records are kept at least.
    pub keep_ms: u64,
    /// What the outboxes keep for those who have it not.
    pub outbox_max: Backlog,
    /// Records per second that repairs send.
    pub repair_rate: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A unit can be sent to; everything is declared.
    LinkUp(UnitId),
    /// It cannot; whatever was not confirmed may or may not have arrived.
    LinkDown(UnitId),
    /// A unit's broker takes no message of more bytes than this.
    Limit(UnitId, usize),
    /// Deliveries that are not acknowledged will come again.
    InboxDown,
    /// Records of these buckets were written here.
    Written(BTreeSet<u8>),
    /// What waits, by bucket; `None` if the store is away.
    Counted(Option<BTreeMap<u8, Backlog>>),
    /// Where the links were; `None` if the store is away.
    CursorsRead(Option<Cursors>),
    /// The first ops of the outboxes that were asked for, in that order; `None` if the store is away.
    OutboxesRead(Option<Vec<Waiting>>),
    /// Cursors of a link were stored, or not.
    Confirmed(UnitId, bool),
    /// Outboxes were shortened, or not.
    Shortened,
    /// The broker confirmed a message to a unit, or did not.
    Published(UnitId, MessageId, bool),
    /// A message came in.
    Delivered(Tag, Envelope),
    /// What was to be applied was; `None` if it could not be.
    Applied(Option<Vec<Applied>>),
    /// What this unit's buckets hold, and in which epoch that was read; `None` if the store is away.
    States(Purpose, Option<(u64, Vec<Held>)>),
    /// Records of a bucket; `None` if the store is away.
    PageRead(Option<(Vec<Record>, Page)>),
    /// What is to be told to all others who listen, and for how many ms it is of use.
    Tell(Body, u64),
    /// What is to be told to one unit.
    Send(UnitId, Body),
    /// Which fixed data this unit has.
    Fixed(Option<FixedState>),
    /// Time passed.
    Tick,
}

/// What is to be done. Each but the last five is answered by an [`Input`].
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Count the outboxes.
    Count,
    /// Read where the links were.
    ReadCursors,
    /// Read the first ops of outboxes, each after a position.
    ReadOutboxes(Vec<(u8, Position)>),
    /// Store how far a unit's link is, and remove what all these members have.
    Confirm(UnitId, Vec<(u8, Position)>, Vec<UnitId>),
    /// Remove the first ops of outboxes but for so many.
    Shorten(Vec<(u8, u64)>),
    /// Publish a message to each of these units.
    Publish {
        /// Its name in each answer.
        id: MessageId,
        /// To whom.
        to: Vec<UnitId>,
        /// For how long.
        lasts: Lasts,
        /// The message.
        body: Body,
    },
    /// Apply batches to buckets, in order.
    Apply(Vec<(u8, Batch)>),
    /// Read what this unit's buckets hold.
    ReadStates(Purpose),
    /// Read records of a bucket.
    ReadPage(u8, Page),
    /// Count a bucket's digests anew: repairs did not make them equal.
    Recount(u8),
    /// Forget what was gone in a bucket before this moment, and remember what every member had then.
    Collect(u8, u64, BTreeMap<UnitId, Position>),
    /// Acknowledge a delivery.
    Ack(Tag),
    /// Set a delivery aside: it comes from nobody we know.
    SetAside(Tag, UnitId),
    /// What another unit says to whom it may concern.
    Heard(UnitId, Body),
    /// A record of a unit is not taken, and why.
    Aside(UnitId, RecordId, Fault),
    /// What is too large for a unit's broker, whose limit this is: all of it.
    Unsendable(UnitId, usize, BTreeMap<RecordId, usize>),
    /// How far a unit's clock is ahead of ours, in ms.
    Skew(UnitId, i64),
    /// Count something.
    Note(Note, u64),
    /// A comparison was made.
    Compared(UnitId, Comparison),
    /// These batches were applied.
    Done(Vec<(u8, Batch)>),
}

/// How long a message is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// Until it is read: the broker keeps it on disk.
    UntilRead,
    /// This many milliseconds.
    Ms(u64),
}

/// What the buckets' states are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To tell the others.
    Tell,
    /// To compare with what another told.
    Compare,
    /// To send a bucket's records.
    Repair,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// Ops confirmed by the broker.
    OpsPublished,
    /// Buckets of a store that went back to an older copy of itself.
    WentBack,
    /// Changes that are too large for a broker.
    Unsendable,
    /// Messages not confirmed.
    PublishesFailed,
    /// Ops received.
    OpsReceived,
    /// Records changed by ops.
    RecordsApplied,
    /// Ops before which others are missing.
    Gaps,
    /// Batches that the store did not take.
    ApplyFailures,
    /// Changes that did not know of each other.
    Conflicts,
    /// Records that a repair brought although they may be deleted.
    RecordsRefused,
    /// Changes of the future, which are not taken.
    Ahead,
    /// Buckets that differ at equal positions.
    Diverged,
    /// Buckets that are behind and stay there.
    Stalled,
    /// Buckets of which a sender no longer had all ops.
    Skipped,
    /// Records changed by a repair.
    Repaired,
    /// Repairs that were asked for beyond the bound, or could not be sent.
    RepairsDropped,
}

/// A unit's sync.
#[derive(Debug)]
pub struct Machine {
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
    fixed: Option<FixedState>,
    count_at_ms: u64,
    tell_at_ms: u64,
}

impl Machine {
    /// The sync of this unit with these, with no link yet. Where the members are others, it begins anew.
    pub fn new(unit: UnitId, peers: BTreeSet<UnitId>, rules: Rules) -> Self {
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
            fixed: None,
            count_at_ms: 0,
            tell_at_ms: 0,
        }
    }

    /// How many ops the broker has for each unit, since the beginning.
    pub fn confirmed(&self) -> BTreeMap<UnitId, u64> {
        self.outgoing.sent()
    }

    /// What follows from what happened.
    pub fn handle(&mut self, input: Input, moment: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        let now_ms = moment.now_ms;
        match input {
            Input::LinkUp(unit) => {
                self.outgoing.link_up(&unit);
                // The count finds every outbox that has something: the sweep after a reconnect.
                self.count_at_ms = now_ms;
            }
            Input::LinkDown(unit) => {
                self.outgoing.link_down(&unit);
                self.repairs.link_down(&unit);
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
            }
            Input::Delivered(tag, envelope) => {
                self.delivered(tag, envelope, moment, &mut effects);
            }
            Input::Applied(applied) => self.applied(applied, now_ms, &mut effects),
            Input::States(purpose, states) => self.states(purpose, states, moment, &mut effects),
            Input::PageRead(page) => {
                let id = self.next_message();
                let links = &self.outgoing;
                self.repairs
                    .page_read(page, id, (links, moment), &mut effects);
            }
            Input::Tell(body, lasts_ms) => self.tell(body, lasts_ms, &mut effects),
            Input::Send(unit, body) => self.send(unit, body, &mut effects),
            Input::Fixed(fixed) => self.fixed = fixed,
            Input::Tick => {}
        }
        self.go_on(now_ms, &mut effects);
        effects
    }

    /// Whatever is due, whatever happened.
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
        self.repairs.go_on(&self.outgoing, now_ms, next, effects);
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

    /// Tells all who listen now; whoever does not misses it.
    fn tell(&mut self, body: Body, lasts_ms: u64, effects: &mut Vec<Effect>) {
        let to: Vec<UnitId> = self.outgoing.up().cloned().collect();
        if to.is_empty() {
            return;
        }
        let id = self.next_message();
        let lasts = Lasts::Ms(lasts_ms);
        effects.push(Effect::Publish {
            id,
            to,
            lasts,
            body,
        });
    }

    fn send(&mut self, unit: UnitId, body: Body, effects: &mut Vec<Effect>) {
        if !self.outgoing.is_up(&unit) {
            return;
        }
        effects.push(Effect::Publish {
            id: self.next_message(),
            to: vec![unit],
            lasts: Lasts::UntilRead,
            body,
        });
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
                buckets,
            } => {
                // Of no use twice: the next ones come soon.
                effects.push(Effect::Ack(tag));
                let echo = echoes.iter().find(|echo| echo.unit == self.unit);
                let skew = self.skews.heard(&from, sent_ms, echo, moment.wall_ms);
                effects.extend(skew.map(|skew_ms| Effect::Skew(from.clone(), skew_ms)));
                if fixed > self.fixed {
                    self.send(from.clone(), Body::FixedRequest {}, effects);
                }
                if self.compare.heard(from, epoch, buckets, moment.now_ms) {
                    effects.push(Effect::ReadStates(Purpose::Compare));
                }
            }
            Body::RepairRequest { buckets } => {
                // If this process dies before it answers, the asker asks again.
                effects.push(Effect::Ack(tag));
                let dropped = self.repairs.asked(&from, &buckets);
                effects.push(Effect::Note(Note::RepairsDropped, dropped));
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
                    epoch,
                    echoes: self.skews.echoes(),
                    fixed: self.fixed.clone(),
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

/// Names the changes of the future, which the store does not take.
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

/// A number of things, for a counter.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
