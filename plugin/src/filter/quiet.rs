//! Warnings that clients or a neighbour can cause: each kind is logged once in a while.

use std::cell::Cell;

use super::clock::monotonic_us;

/// The time between two warnings of a kind.
const QUIET_US: u64 = 10_000_000;

/// When a kind of warning was logged last.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    told_us: Cell<u64>,
}

impl Quiet {
    /// Logs, unless it did so a moment ago.
    pub(super) fn warn(&self, text: impl FnOnce() -> String) {
        let (now_us, told_us) = (monotonic_us(), self.told_us.get());
        if told_us == 0 || now_us.saturating_sub(told_us) >= QUIET_US {
            self.told_us.set(now_us.max(1));
            log::warn!("unitring: {}", text());
        }
    }
}
