//! Protections that a test can switch off, so that it sees whether the simulation notices.

use super::stories::Kind;

/// A protection that is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    // The rule of a change (`replica/`).
    /// Deletions leave no tombstone.
    Tombstones,
    /// An op that a position covers, but that is absent, is applied again.
    Covered,
    /// The last version to arrive wins, instead of the latest one.
    Order,
    /// The clock of a change is believed, even one in the future.
    Future,
    /// An incarnation of the future is believed.
    Incarnation,
    /// Positions of the future are believed.
    Positions,
    /// The clock of a repair's sender is believed, even one in the future.
    SenderClock,
    /// A unit acknowledges writes with a clock that no peer accepts.
    OwnFuture,
    /// The bucket's clock does not move with the changes of others.
    Hear,
    /// The bucket's clock goes back with that of the machine.
    Tick,
    /// A sender that has not collected yet may bring back what was collected here.
    Fence,
    /// A record without its value goes into a repair as an empty one, and a recount keeps it.
    Value,
    /// Ops do not name the version that they replaced.
    Over,
    /// Conflicts are not listed.
    Conflicts,
    /// Conflicts are listed without the lost value.
    LostValue,
    // The store and its companions.
    /// A full store confirms nothing and deletes nothing, as it puts nothing.
    Full,
    /// A companion without peers may write, although its unit has some.
    Agreement,
    /// A unit goes on acknowledging writes although its store says that it was removed.
    Removed,
    /// A removed unit comes back with its old store.
    OldStore,
    /// A removal keeps a unit out, whichever store it names.
    OldRemoval,
    /// There is no way back after a clock of the future.
    WayBack,
    // The machine (`sync/machine/`).
    /// A message may hold numbers and senders that no unit may send.
    Decode,
    /// Messages of a unit that is no member are taken.
    Strangers,
    /// Digests do not carry the identity of their store.
    Identity,
    /// Digests do not tell what was heard when.
    Echo,
    /// No digests are sent.
    Digests,
    /// Digests that differ at equal positions are not seen.
    Diverged,
    /// Digests are never recomputed.
    Recount,
    /// Each unit collects tombstones by its own clock.
    Rounds,
    /// The broker's limit stays unknown.
    Limit,
    /// A cursor is stored once only.
    StoreAgain,
    /// An op leaves the outbox with the first link's confirm.
    AllLinks,
    /// A message counts as confirmed although the broker refused it.
    Confirm,
    /// A delivery is acknowledged before it is applied.
    EarlyAck,
    /// A batch counts as applied although the store was away.
    Applied,
}

impl Broken {
    /// The protections, and the kind of story that needs each.
    pub(super) const ALL: [(Self, Kind); 35] = [
        (Self::Tombstones, Kind::Plain),
        (Self::Covered, Kind::Plain),
        (Self::Order, Kind::Plain),
        (Self::Future, Kind::Hostile),
        (Self::Incarnation, Kind::Hostile),
        (Self::Positions, Kind::Hostile),
        (Self::SenderClock, Kind::Hostile),
        (Self::OwnFuture, Kind::FarClock),
        (Self::Hear, Kind::Plain),
        (Self::Tick, Kind::ClockJumps),
        (Self::Fence, Kind::Plain),
        (Self::Value, Kind::ValuesLost),
        (Self::Over, Kind::Plain),
        (Self::Conflicts, Kind::Plain),
        (Self::LostValue, Kind::Plain),
        (Self::Full, Kind::Full),
        (Self::Agreement, Kind::WithoutPeers),
        (Self::Removed, Kind::Leaving),
        (Self::OldStore, Kind::Leaving),
        (Self::OldRemoval, Kind::Leaving),
        (Self::WayBack, Kind::FarClock),
        (Self::Decode, Kind::Hostile),
        (Self::Strangers, Kind::Hostile),
        (Self::Identity, Kind::Twin),
        (Self::Echo, Kind::Plain),
        (Self::Digests, Kind::Plain),
        (Self::Diverged, Kind::ValuesLost),
        (Self::Recount, Kind::WrongDigest),
        (Self::Rounds, Kind::Plain),
        (Self::Limit, Kind::Large),
        (Self::StoreAgain, Kind::GoneBack),
        (Self::AllLinks, Kind::Calm),
        (Self::Confirm, Kind::Calm),
        (Self::EarlyAck, Kind::Calm),
        (Self::Applied, Kind::Calm),
    ];
}
