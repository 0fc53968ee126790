//! The bounds of the event log, and its size.
//!
//! An entry is one event, or equal events of many observers ([`crate::events::merging`]). The log keeps as many entries
//! as fit into its bytes, of any age; then the oldest go.

use std::ops::AddAssign;

/// Most bytes of the entries, counted as the JSON that is stored; then the oldest go. An entry has about 200 bytes, so
/// these are some 83,000: a day of a large fleet.
pub(crate) const EVENTS_BYTES_MAX: u64 = 16 << 20;
/// Most entries that go in one step, so that no step takes long; the next one continues.
pub(crate) const TRIMMED_MAX: u64 = 2_000;
/// Instances whose latest entries the embedded store remembers to count further events with; half of them are forgotten
/// when there are more. Redis forgets those of an instance after [`LATEST_MS`].
pub(crate) const LATEST_INSTANCES_MAX: u64 = 8_192;
/// How long Redis remembers the latest entries of an instance after the last event. Reports of one event arrive within
/// seconds; of Envoys that had no companion for a while, too, as soon as it is back.
pub(crate) const LATEST_MS: u64 = 60_000;

/// The outcome of events that were to be logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Logged {
    /// New entries.
    pub stored: u64,
    pub bytes: u64,
    /// Events that were counted with an entry.
    pub counted: u64,
    /// Events that were left out, since their reporter had no room.
    pub left_out: u64,
}

impl AddAssign for Logged {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.bytes += other.bytes;
        self.counted += other.counted;
        self.left_out += other.left_out;
    }
}

/// The size of the event log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSize {
    /// Bytes of its entries.
    pub bytes: u64,
    pub entries: u64,
    /// When the oldest of them happened, in ms since the Unix epoch; `None` if it has none.
    pub oldest_ms: Option<u64>,
}
