//! The inputs and effects of the machine.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::{Body, Envelope, FixedState};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, Record, RecordId};

use super::compare::Comparison;
pub(crate) use crate::moment::Moment;
use crate::replica::bounds::Fault;
use crate::store::{Applied, Backlog, Batch, Cursors, Held, Page, Waiting};

/// Identifies a delivery until it is acknowledged.
pub(crate) type Tag = u64;
/// Identifies a message until it is confirmed.
pub(crate) type MessageId = u64;

/// The settings of a unit's sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How often digests are sent.
    pub digest_interval_ms: u64,
    /// How long tombstones and expired records are kept at least.
    pub keep_ms: u64,
    /// The bound of the outboxes together.
    pub outbox_max: Backlog,
    /// Records per second that repairs send.
    pub repair_rate: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// The link to a unit is up, with everything declared.
    LinkUp(UnitId),
    /// The link to a unit is down; messages without a confirm may or may not have arrived.
    LinkDown(UnitId),
    /// A unit's broker takes no message of more bytes than this.
    Limit(UnitId, usize),
    /// The link in is down; the broker delivers unacknowledged messages again.
    InboxDown,
    /// Records of these buckets were written here.
    Written(BTreeSet<u8>),
    /// The backlog of the outboxes, by bucket; `None` if the store did not answer.
    Counted(Option<BTreeMap<u8, Backlog>>),
    /// The stored cursors; `None` if the store did not answer.
    CursorsRead(Option<Cursors>),
    /// The first ops of the requested outboxes, in the same order; `None` if the store did not
    /// answer.
    OutboxesRead(Option<Vec<Waiting>>),
    /// Whether the cursors of a link were stored.
    Confirmed(UnitId, bool),
    /// The attempt to shorten outboxes ended.
    Shortened,
    /// Whether the broker confirmed a message to a unit.
    Published(UnitId, MessageId, bool),
    /// A message arrived.
    Delivered(Tag, Envelope),
    /// The results of the batches; `None` if they could not be applied.
    Applied(Option<Vec<Applied>>),
    /// The content of this unit's buckets, and the epoch in which it was read; `None` if the store did
    /// not answer.
    States(Purpose, Option<(u64, Vec<Held>)>),
    /// Records of a bucket; `None` if the store did not answer.
    PageRead(Option<(Vec<Record>, Page)>),
    /// A message for all peers that are connected, and for how many ms it is of use.
    Tell(Body, u64),
    /// Messages for one unit, which are sent one after the other.
    Send(UnitId, Vec<Body>),
    /// The fixed data that this unit has.
    Fixed(Option<FixedState>),
    /// The identity of this unit's store.
    Identity(u64),
    /// Time passed.
    Tick,
}

/// An action for the shell. Each effect up to [`Effect::ReadPage`] is answered by an [`Input`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Count the outboxes.
    Count,
    /// Read the stored cursors.
    ReadCursors,
    /// Read the first ops of outboxes, each after a position.
    ReadOutboxes(Vec<(u8, Position)>),
    /// Store the cursors of a unit's link, and remove the ops that the broker has for all these
    /// members.
    Confirm(UnitId, Vec<(u8, Position)>, Vec<UnitId>),
    /// Remove the first ops of outboxes, and keep this many of the last.
    Shorten(Vec<(u8, u64)>),
    /// Publish a message to each of these units.
    Publish {
        /// Identifies the message in each answer.
        id: MessageId,
        /// The units that it goes to.
        to: Vec<UnitId>,
        /// How long it is of use.
        lasts: Lasts,
        body: Body,
    },
    /// Apply batches to buckets, in order.
    Apply(Vec<(u8, Batch)>),
    /// Read what this unit's buckets hold.
    ReadStates(Purpose),
    /// Read records of a bucket.
    ReadPage(u8, Page),
    /// Recompute a bucket's digests: repairs did not make them equal.
    Recount(u8),
    /// Collect records of a bucket that were gone before this moment, with these positions as the fence.
    Collect(u8, u64, BTreeMap<UnitId, Position>),
    /// Acknowledge a delivery.
    Ack(Tag),
    /// Set a delivery aside: its sender is no member.
    SetAside(Tag, UnitId),
    /// Handle a peer's loads, events or fixed data.
    Heard(UnitId, Body),
    /// Report a record of a peer that is set aside, and why.
    Aside(UnitId, RecordId, Fault),
    /// Report all records that are too large for a unit's broker, with the limit and the sizes.
    Unsendable(UnitId, usize, BTreeMap<RecordId, usize>),
    /// Report that a message of this kind is too large for a unit's broker, with its bytes and the limit; or, with
    /// `None`, that it is no more.
    Oversized(UnitId, &'static str, Option<(usize, usize)>),
    /// Report that two stores speak in a unit's name: one that spoke before the last one is back.
    Namesake(UnitId),
    /// Report how far a unit's clock is ahead of ours, in ms.
    Skew(UnitId, i64),
    /// Add to a counter.
    Note(Note, u64),
    /// Report a comparison with a unit.
    Compared(UnitId, Comparison),
    /// Report that these batches were applied.
    Done(Vec<(u8, Batch)>),
}

/// How long a message is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// Until it is read: the broker keeps it on disk.
    UntilRead,
    /// For this many milliseconds.
    Ms(u64),
}

/// Why the buckets' states are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To send them to the peers.
    Tell,
    /// To compare them with a peer's.
    Compare,
    /// To send a bucket's records.
    Repair,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Note {
    /// Ops that the broker confirmed.
    OpsPublished,
    /// Times that a bucket's store went back to an older copy of itself.
    WentBack,
    /// Records that are too large for a broker.
    Unsendable,
    /// Ops that are not sent because a later op of their record is.
    Superseded,
    /// Messages that were not confirmed.
    PublishesFailed,
    OpsReceived,
    /// Records changed by ops.
    RecordsApplied,
    /// Ops that arrived before an earlier one.
    Gaps,
    /// Times that the store did not apply batches.
    ApplyFailures,
    /// Concurrent changes.
    Conflicts,
    /// Records of repairs that were refused because they may have been deleted.
    RecordsRefused,
    /// Changes of the future, which are not taken.
    Ahead,
    /// Buckets that differ at equal positions.
    Diverged,
    /// Buckets that are behind without progress.
    Stalled,
    /// Buckets whose sender no longer had all ops.
    Skipped,
    /// Records that repairs changed.
    Repaired,
    /// Requested repairs that were beyond the bound, or could not be sent.
    RepairsDropped,
}
