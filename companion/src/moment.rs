//! A moment by two clocks. What decides takes it as a value; [`crate::clock`] reads it.

/// When something happened, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// The monotonic time for timers: it never goes back.
    pub now_ms: u64,
    /// The wall clock, in ms since the Unix epoch.
    pub wall_ms: u64,
}
