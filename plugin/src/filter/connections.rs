//! The newest client connection of a configuration, by Envoy's numbers: by these the VMs find out
//! that a listener has gone back to earlier settings ([`unitring_balancer::configurations`]).
//!
//! An attribute costs as much as a tenth of a request, so a VM reads it for one request a second.

use std::cell::Cell;

use super::shared;
use unitring_balancer::configurations::in_order;

/// Time between two requests whose connection is read.
const READ_MS: u64 = 1_000;

/// The connections that a VM has read.
#[derive(Debug)]
pub(super) struct Connections {
    /// Whether the next request's connection is read, as that of the first is.
    is_wanted: Cell<bool>,
    asked_ms: Cell<u64>,
    newest: Cell<u64>,
    /// The newest that is in shared data already.
    published: Cell<u64>,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self {
            is_wanted: Cell::new(true),
            asked_ms: Cell::new(0),
            newest: Cell::new(0),
            published: Cell::new(0),
        }
    }

    /// Notices the connection of the current request.
    pub(super) fn on_request(&self) {
        if self.is_wanted.get() {
            self.read();
        }
    }

    #[cold]
    #[inline(never)]
    fn read(&self) {
        self.is_wanted.set(false);
        let connection = super::number(&["connection", "id"]);
        let newest = connection.and_then(in_order).unwrap_or(0);
        self.newest.set(newest.max(self.newest.get()));
    }

    /// Publishes the newest connection, and asks for another one now and then.
    pub(super) fn tick(&self, key: &str, now_ms: u64) {
        if self.newest.get() > self.published.get() {
            let mut published = 0;
            let written = shared::change::<u64>(key, |newest| {
                published = *newest;
                let grows = self.newest.get() > *newest;
                *newest = self.newest.get().max(*newest);
                grows
            });
            // What could not be written is tried again.
            let published = if written {
                self.newest.get()
            } else {
                published
            };
            self.published.set(published);
        }
        if now_ms.abs_diff(self.asked_ms.get()) >= READ_MS {
            self.asked_ms.set(now_ms);
            self.is_wanted.set(true);
        }
    }
}
