//! What happens to a unit, and what it is to do: the words between the machine and what carries it.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::{Body, Envelope, FixedState};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, Record, RecordId};

use super::compare::Comparison;
use crate::replica::bounds::Fault;
use crate::store::{Applied, Backlog, Batch, Cursors, Held, Page, Waiting};

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
    /// The identity of this unit's store.
    Identity(u64),
    /// Time passed.
    Tick,
}

/// What is to be done. Each but the last six is answered by an [`Input`].
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
    /// Another store than the last one speaks in a unit's name, and spoke before: it is two units.
    Namesake(UnitId),
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
