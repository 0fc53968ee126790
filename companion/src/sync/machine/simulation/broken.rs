//! Rules that a test can switch off, so that it sees whether the simulation notices.

/// A rule that a test can make a store break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    /// Deletions leave no tombstone.
    Tombstones,
    /// An op that a position covers, but that is absent, is applied again.
    Covered,
    /// The last version to arrive wins, instead of the latest one.
    Order,
    /// The clock of a change is believed, even one in the future.
    Future,
    /// A full store confirms nothing and deletes nothing, as it puts nothing.
    Full,
    /// A companion without peers may write, although its unit has some.
    Agreement,
    /// A record without its value goes into a repair as an empty one, and a recount keeps it.
    Value,
    /// The broker's limit stays unknown.
    Limit,
}
