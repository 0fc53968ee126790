//! The answers that wait: for their bodies, for their updates, and to be replaced.

use std::time::Duration;

use proxy_wasm::hostcalls;

use super::{HandOver, millis, put_in_force};
use crate::filter::clock::monotonic_us;
use crate::filter::trouble::Trouble;

/// After this many ticks in a row with an answer whose body did not come in time, and none whose body came, Envoy
/// counts as showing no bodies. One alone may be slow.
const UNREAD_ROW: u32 = 3;
/// How long no answer waits for its body after that.
const UNREAD_MS: u64 = 10_000;
/// Answers that are replaced in one call into the VM: some 300 would exhaust V8's stack.
const ENDED_AT_ONCE: usize = 64;
/// The timer's period while more are to be replaced.
const HURRY: Duration = Duration::from_millis(10);

/// Whether Envoy shows the bodies of answers whose headers wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodySeen {
    /// The number of ticks in a row in which an answer was given up without a body.
    Unknown(u32),
    Yes,
    /// Envoy showed none, and no answer waits for its body until this time.
    No(u64),
}

impl HandOver {
    /// Ends the answers whose bodies take too long, and finds out whether Envoy shows bodies at all.
    pub(super) fn end_bodies(&self, now_ms: u64) {
        let timeout_ms = millis(self.capture.timeout);
        let bodies = self.bodies.borrow();
        let late = bodies
            .iter()
            .filter(|(_, since_ms)| now_ms.saturating_sub(**since_ms) >= timeout_ms);
        let late: Vec<u32> = late.map(|(context, _)| *context).collect();
        drop(bodies);
        if late.is_empty() {
            return;
        }
        let trouble = match self.body.get() {
            BodySeen::Yes => Trouble::Late,
            BodySeen::No(_) => Trouble::Unread,
            BodySeen::Unknown(row) if row + 1 < UNREAD_ROW => {
                self.body.set(BodySeen::Unknown(row + 1));
                Trouble::Late
            }
            BodySeen::Unknown(_) => Trouble::Unread,
        };
        if trouble == Trouble::Unread {
            self.body
                .set(BodySeen::No(now_ms.saturating_add(UNREAD_MS)));
            self.totals.updates_unread.add(1);
        }
        for context in late {
            self.end(context, trouble);
        }
    }

    /// Marks an answer to be replaced soon.
    pub(super) fn end(&self, context: u32, trouble: Trouble) {
        self.forget(context);
        self.ending.borrow_mut().push_back((context, trouble));
    }

    /// Ends some of the answers that are due. Envoy deletes each stream within this call into the VM, and
    /// each deletion is another call on the same stack. The root context is in force afterwards.
    pub(super) fn end_some(&self) {
        for _ in 0..ENDED_AT_ONCE {
            let next = self.ending.borrow_mut().pop_front();
            let Some((context, trouble)) = next else {
                break;
            };
            put_in_force(context);
            trouble.reply(&self.totals);
        }
        put_in_force(self.root);
        let has_more = !self.ending.borrow().is_empty();
        if has_more || self.is_hurrying.get() {
            self.is_hurrying.set(has_more);
            let period = if has_more { HURRY } else { self.tick };
            if let Err(status) = hostcalls::set_tick_period(period) {
                log::error!("unitring: the timer could not be set: {status:?}");
            }
        }
    }

    /// Lets an answer go. Its context is in force afterwards.
    pub(super) fn release(&self, context: u32) {
        self.forget(context);
        put_in_force(context);
        if let Err(status) = hostcalls::resume_http_response() {
            log::error!("unitring: an answer could not go on: {status:?}");
        }
    }

    /// The answer of the context waits no more.
    pub(super) fn forget(&self, context: u32) {
        self.holds.borrow_mut().remove(&context);
        self.bodies.borrow_mut().remove(&context);
    }

    /// The request of the context is over.
    pub(in crate::filter) fn on_over(&self, context: u32) {
        self.forget(context);
        self.ending.borrow_mut().retain(|(of, _)| *of != context);
    }

    pub(super) fn is_ending(&self, context: u32) -> bool {
        self.ending.borrow().iter().any(|(of, _)| *of == context)
    }

    /// The answer of the context waits for its body. `false` if Envoy does not show bodies.
    pub(in crate::filter) fn awaits_body(&self, context: u32) -> bool {
        let now_ms = monotonic_us() / 1_000;
        if matches!(self.body.get(), BodySeen::No(until_ms) if now_ms < until_ms) {
            self.totals.updates_unread.add(1);
            return false;
        }
        self.bodies.borrow_mut().insert(context, now_ms);
        true
    }

    /// Takes more bytes of a body that is being read; `false` if there is no room. Waiting updates and bodies under way
    /// share one bound.
    pub(in crate::filter) fn takes(&self, bytes: usize) -> bool {
        let reading = self.reading.get().saturating_add(bytes);
        let fits = reading.saturating_add(self.queue.borrow().bytes()) <= self.capture.queue.bytes;
        if fits {
            self.reading.set(reading);
        }
        fits
    }

    /// Gives the bytes of a body back.
    pub(in crate::filter) fn gives_back(&self, bytes: usize) {
        self.reading.set(self.reading.get().saturating_sub(bytes));
    }

    /// Envoy shows a body whose headers wait.
    pub(in crate::filter) fn sees_body(&self) {
        self.body.set(BodySeen::Yes);
    }
}
