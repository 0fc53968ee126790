//! The instance's own count of its connections.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many are open, and the most that were.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    open: AtomicUsize,
    peak: AtomicUsize,
}

/// Counts a connection until it is dropped.
pub(crate) struct Counted(Arc<Counter>);

impl Counter {
    /// Counts one more.
    pub(crate) fn count(self: &Arc<Self>) -> Counted {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As `load` is answered.
impl fmt::Display for Counter {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [open, peak] = [&self.open, &self.peak].map(|count| count.load(Ordering::Relaxed));
        writeln!(text, "{open} {peak}")
    }
}
