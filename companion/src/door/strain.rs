//! Whether requests were refused lately. Then a heartbeat may be among them, and nothing expires.

use std::sync::atomic::{AtomicU64, Ordering};

/// When a request was last refused.
#[derive(Debug, Default)]
pub(crate) struct Strain(AtomicU64);

impl Strain {
    /// Notes that a request or a connection was refused.
    pub(crate) fn felt(&self, now_ms: u64) {
        self.0.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// How long ago that was, in ms; `None` if it never was.
    pub(crate) fn ago_ms(&self, now_ms: u64) -> Option<u64> {
        let at = self.0.load(Ordering::Relaxed);
        (at > 0).then(|| now_ms.saturating_sub(at))
    }
}
