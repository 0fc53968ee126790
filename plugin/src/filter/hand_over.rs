//! The updates of one service in this VM on their way to the companion, and the answers that wait
//! for them.
//!
//! Batches are sent with the root context in force: a callout of a request would be cancelled when
//! its client leaves. [`crate::capture::queue`] decides what is sent when, and what became of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};
use unitring_protocol::record::Value;
use unitring_protocol::updates::Update;

use super::call::http_call;
use super::callout::AUTHORITY;
use super::clock::monotonic_us;
use super::quiet::Quiet;
use super::stats::{InstanceStats, ServiceStats};
use super::trouble::Trouble;
use crate::capture::grammar::{Announced, Change};
use crate::capture::message::{self, Sender};
use crate::capture::queue::{Entry, Fate, Loss, Queue};
use crate::headers::Headers;
use crate::settings::{Capture, CaptureMode, Companion, Settings};

/// Without anybody who waits, so many updates are sent before the next tick, or so many bytes.
const SENT_EARLY: usize = 64;
const SENT_EARLY_BYTES: usize = 256 << 10;
/// After so many ticks in a row with an answer whose body did not come in time, and none whose body came, Envoy shows
/// no bodies. One alone may be slow.
const UNREAD_ROW: u32 = 3;
/// After that, how long none is waited for.
const UNREAD_MS: u64 = 10_000;
/// How long an update waits that no answer waits for. The companion remembers for longer what it has applied.
const KEPT_MS: u64 = 1_800_000;
/// Answers that are replaced in one call into the VM: some 300 would exhaust V8's stack.
const ENDED_AT_ONCE: usize = 64;
/// The timer's period while more are to be replaced.
const HURRY: Duration = Duration::from_millis(10);
/// How long after its timeout a callout without an answer is given up.
const LOST_MS: u64 = 5_000;

thread_local! {
    /// The token of each batch under way in this VM, and whose it is.
    static CALLS: RefCell<Vec<(u32, Weak<HandOver>)>> = const { RefCell::new(Vec::new()) };
}

/// Takes the answer to a batch; `false` if the token is none of a batch.
pub(super) fn answered(token: u32, body_size: usize) -> bool {
    let found = CALLS.with_borrow_mut(|calls| {
        let at = calls.iter().position(|(of, _)| *of == token)?;
        Some(calls.swap_remove(at).1)
    });
    let Some(sender) = found else {
        return false;
    };
    // The configuration that sent it may be gone.
    if let Some(hand_over) = sender.upgrade() {
        hand_over.on_answer(body_size);
    }
    true
}

/// The updates of a service on their way.
#[derive(Debug)]
pub(super) struct HandOver {
    root: u32,
    sender: Sender,
    companion: Companion,
    capture: Capture,
    queue: RefCell<Queue<Teller>>,
    /// By the context of each answer that waits for its updates.
    holds: RefCell<BTreeMap<u32, Hold>>,
    /// The answers that wait for their bodies, and since when.
    bodies: RefCell<BTreeMap<u32, u64>>,
    body: Cell<BodySeen>,
    /// Answers to be replaced.
    ending: RefCell<VecDeque<(u32, Trouble)>>,
    /// Whether the timer is short, since there are many of them.
    is_hurrying: Cell<bool>,
    /// The timer's usual period.
    tick: Duration,
    /// Whether a batch is under way, and since when.
    is_sending: Cell<bool>,
    sent_ms: Cell<u64>,
    /// Bytes of bodies that are being read.
    reading: Cell<usize>,
    this: Weak<Self>,
    last_sequence: Cell<u64>,
    failing: Cell<bool>,
    refused: Quiet,
    dropped: Quiet,
    totals: Rc<ServiceStats>,
}

/// Whom to tell what became of an update.
#[derive(Debug)]
struct Teller {
    /// The instance that announced it, if the filter knows it.
    instance: Option<Rc<InstanceStats>>,
    /// The context of the answer that waits for it.
    hold: Option<u32>,
}

/// An answer that waits.
#[derive(Debug)]
struct Hold {
    /// Updates whose fate is not known.
    left: usize,
    deadline_ms: u64,
}

/// Whether Envoy shows the bodies of answers whose headers wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodySeen {
    /// So many ticks in a row an answer was given up without one.
    Unknown(u32),
    Yes,
    /// It did not, and none is waited for until then.
    No(u64),
}

impl HandOver {
    /// `None` unless updates are handed over.
    pub(super) fn new(
        root: u32,
        sender: Sender,
        settings: &Settings,
        tick: Duration,
        totals: Rc<ServiceStats>,
    ) -> Option<Rc<Self>> {
        let capture = settings.capture.clone();
        let companion = settings.companion.clone();
        let companion = companion.filter(|_| capture.mode.hands_over())?;
        let keeps = capture.mode == CaptureMode::Async;
        Some(Rc::new_cyclic(|this| Self {
            root,
            sender,
            companion,
            queue: RefCell::new(Queue::new(keeps, capture.queue)),
            capture,
            holds: RefCell::default(),
            bodies: RefCell::default(),
            body: Cell::new(BodySeen::Unknown(0)),
            ending: RefCell::default(),
            is_hurrying: Cell::new(false),
            tick,
            is_sending: Cell::new(false),
            sent_ms: Cell::new(0),
            reading: Cell::new(0),
            this: this.clone(),
            last_sequence: Cell::new(0),
            failing: Cell::new(false),
            refused: Quiet::default(),
            dropped: Quiet::default(),
            totals,
        }))
    }

    /// Hands the updates of an answer over. With `holds` the answer of the context waits from now on;
    /// the context is in force afterwards.
    pub(super) fn push(
        &self,
        context: u32,
        updates: Vec<Announced>,
        body: &[u8],
        instance: Option<&Rc<InstanceStats>>,
        holds: bool,
    ) {
        let now_ms = monotonic_us() / 1_000;
        let holds = holds && !self.is_ending(context);
        let patience_ms = if holds {
            millis(self.capture.timeout)
        } else {
            KEPT_MS
        };
        let deadline_ms = now_ms.saturating_add(patience_ms);
        if holds {
            let left = updates.len();
            let hold = Hold { left, deadline_ms };
            self.holds.borrow_mut().insert(context, hold);
        }
        self.bodies.borrow_mut().remove(&context);
        for update in updates {
            let update = self.numbered(update, body);
            if let Some(captured) = instance.and_then(|stats| stats.captured.as_ref()) {
                let bytes = update.value.as_ref().map_or(0, |value| value.0.len());
                captured.bytes.add(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
            let entry = Entry {
                update,
                deadline_ms,
                teller: Teller {
                    instance: instance.cloned(),
                    hold: holds.then_some(context),
                },
            };
            let gone = self.queue.borrow_mut().push(entry);
            self.tell(gone, context);
        }
        let is_early = {
            let queue = self.queue.borrow();
            queue.len() >= SENT_EARLY || queue.bytes() >= SENT_EARLY_BYTES
        };
        if holds || is_early {
            self.send(context, now_ms);
        }
    }

    fn numbered(&self, announced: Announced, body: &[u8]) -> Update {
        let sequence = monotonic_us().max(self.last_sequence.get().saturating_add(1));
        self.last_sequence.set(sequence);
        let (delete, ttl_ms, value) = match announced.change {
            Change::Delete => (true, None, None),
            Change::Put {
                ttl_ms,
                body: false,
            } => (false, ttl_ms, None),
            Change::Put { ttl_ms, body: true } => (false, ttl_ms, Some(Value(body.to_vec()))),
        };
        Update {
            sequence,
            dataset: announced.dataset,
            key: announced.key,
            delete,
            ttl_ms,
            value,
        }
    }

    /// Sends the next batch if it is time; `context` is in force before and afterwards.
    fn send(&self, context: u32, now_ms: u64) {
        while !self.is_sending.get() && self.queue.borrow().is_ready(now_ms) {
            let body = message::write(&self.sender, self.queue.borrow_mut().batch());
            let sent = body
                .map_err(|error| error.to_string())
                .and_then(|body| self.dispatch(context, &body));
            match sent {
                Ok(token) => {
                    self.is_sending.set(true);
                    self.sent_ms.set(now_ms);
                    CALLS.with_borrow_mut(|calls| calls.push((token, self.this.clone())));
                }
                Err(why) => {
                    self.log_outcome(Some(&why));
                    let gone = self.queue.borrow_mut().failed(&why, now_ms);
                    self.tell(gone, context);
                }
            }
        }
    }

    fn dispatch(&self, context: u32, body: &[u8]) -> Result<u32, String> {
        let bearer = format!("Bearer {}", self.companion.token);
        let mut headers = vec![
            (":method", "POST"),
            (":path", "/v1/updates"),
            (":authority", AUTHORITY),
            ("content-type", "application/json"),
        ];
        if !self.companion.token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        let headers: Headers = headers.into_iter().collect();
        put_in_force(self.root);
        let sent = http_call(
            &self.companion.cluster,
            &headers,
            body,
            self.capture.timeout,
        );
        put_in_force(context);
        sent.map_err(|status| {
            let cluster = &self.companion.cluster;
            format!("Envoy has no usable cluster {cluster} (status {status})")
        })
    }

    fn on_answer(&self, body_size: usize) {
        self.is_sending.set(false);
        let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status");
        let status = status.ok().flatten().unwrap_or_default();
        let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size);
        let body = body.ok().flatten().unwrap_or_default();
        let now_ms = monotonic_us() / 1_000;
        let text = || {
            const SHOWN_MAX: usize = 200;
            let text = body.get(..SHOWN_MAX).unwrap_or(&body);
            format!(
                "answered {}: {}",
                status.escape_ascii(),
                text.escape_ascii()
            )
        };
        let mut queue = self.queue.borrow_mut();
        let (gone, failure) = match (status.as_slice(), message::read(&body)) {
            (b"200", Ok(failed)) => (queue.answered(failed, now_ms), None),
            (b"200", Err(error)) => {
                let why = format!("the companion's answer is not readable: {error}");
                (queue.failed(&why, now_ms), Some(why))
            }
            // The batch itself is wrong, so the next try would be, too.
            (b"400" | b"413", _) => (queue.refused(&text(), now_ms), Some(text())),
            (b"", _) => (
                queue.failed("no answer", now_ms),
                Some("no answer".to_owned()),
            ),
            _ => (queue.failed(&text(), now_ms), Some(text())),
        };
        drop(queue);
        self.log_outcome(failure.as_deref());
        self.tell(gone, self.root);
        self.end_some();
        let waits = !self.holds.borrow().is_empty();
        let has_many = self.queue.borrow().len() >= SENT_EARLY;
        if waits || has_many {
            self.send(self.root, now_ms);
        }
    }

    /// The regular work, with the root context in force.
    pub(super) fn tick(&self) {
        let now_ms = monotonic_us() / 1_000;
        self.give_up_lost_call(now_ms);
        let gone = self.queue.borrow_mut().expire(now_ms);
        self.tell(gone, self.root);
        let holds = self.holds.borrow();
        let late = holds.iter().filter(|(_, hold)| hold.deadline_ms <= now_ms);
        let late: Vec<u32> = late.map(|(context, _)| *context).collect();
        drop(holds);
        for context in late {
            self.end(context, Trouble::Late);
        }
        self.end_bodies(now_ms);
        self.end_some();
        self.send(self.root, now_ms);
    }

    /// Envoy ends every callout in time; without an answer this queue would stand still for ever.
    fn give_up_lost_call(&self, now_ms: u64) {
        let latest_ms = millis(self.capture.timeout).saturating_add(LOST_MS);
        if !self.is_sending.get() || now_ms.saturating_sub(self.sent_ms.get()) < latest_ms {
            return;
        }
        let this = self.this.clone();
        CALLS.with_borrow_mut(|calls| calls.retain(|(_, of)| !of.ptr_eq(&this)));
        self.is_sending.set(false);
        let gone = self.queue.borrow_mut().failed("no answer", now_ms);
        self.tell(gone, self.root);
    }

    /// Ends the answers whose bodies take too long, and finds out whether Envoy shows bodies at all.
    fn end_bodies(&self, now_ms: u64) {
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

    /// Answers in the place of an answer soon.
    fn end(&self, context: u32, trouble: Trouble) {
        self.forget(context);
        self.ending.borrow_mut().push_back((context, trouble));
    }

    /// Ends some of the answers that are to be ended. Envoy deletes each stream within this call into the VM, and
    /// each deletion is another call on the same stack. The root context is in force afterwards.
    fn end_some(&self) {
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

    /// Tells what became of updates; `context` is in force before and afterwards.
    fn tell(&self, gone: Vec<(Entry<Teller>, Fate)>, context: u32) {
        if gone.is_empty() {
            return;
        }
        for (entry, fate) in gone {
            let captured = entry.teller.instance.as_ref();
            let captured = captured.and_then(|stats| stats.captured.as_ref());
            match &fate {
                Fate::Stored => self.totals.updates_stored.add(1),
                Fate::Refused(why) => {
                    self.totals.updates_refused.add(1);
                    captured.iter().for_each(|captured| captured.refused.add(1));
                    let (dataset, key) = (&entry.update.dataset, &entry.update.key);
                    let service = &self.sender.service;
                    self.refused.warn(|| {
                        format!("{service}: the data update of {dataset}/{key} was refused: {why}")
                    });
                }
                Fate::Dropped(loss) => {
                    self.totals.updates_dropped.add(1);
                    captured.iter().for_each(|captured| captured.dropped.add(1));
                    let why = match loss {
                        Loss::Full => "too many wait",
                        Loss::Late => "no answer of the companion in time",
                        Loss::Unavailable(why) => why,
                    };
                    let service = &self.sender.service;
                    self.dropped
                        .warn(|| format!("{service}: a data update was dropped: {why}"));
                }
            }
            let Some(hold) = entry.teller.hold else {
                continue;
            };
            let trouble = Trouble::of(&fate);
            let is_over = {
                let mut holds = self.holds.borrow_mut();
                holds.get_mut(&hold).is_some_and(|hold| {
                    hold.left = hold.left.saturating_sub(1);
                    hold.left == 0 || trouble.is_some()
                })
            };
            match trouble {
                _ if !is_over => {}
                None => self.release(hold),
                // The one that is being handled ends with this call.
                Some(trouble) if hold == context => {
                    self.forget(hold);
                    put_in_force(hold);
                    trouble.reply(&self.totals);
                }
                Some(trouble) => self.end(hold, trouble),
            }
        }
        put_in_force(context);
    }

    /// Lets an answer go. Its context is in force afterwards.
    fn release(&self, context: u32) {
        self.forget(context);
        put_in_force(context);
        if let Err(status) = hostcalls::resume_http_response() {
            log::error!("unitring: an answer could not go on: {status:?}");
        }
    }

    /// The answer of the context waits no more.
    fn forget(&self, context: u32) {
        self.holds.borrow_mut().remove(&context);
        self.bodies.borrow_mut().remove(&context);
    }

    /// The request of the context is over.
    pub(super) fn on_over(&self, context: u32) {
        self.forget(context);
        self.ending.borrow_mut().retain(|(of, _)| *of != context);
    }

    fn is_ending(&self, context: u32) -> bool {
        self.ending.borrow().iter().any(|(of, _)| *of == context)
    }

    /// The answer of the context waits for its body. `false` if Envoy does not show bodies.
    pub(super) fn awaits_body(&self, context: u32) -> bool {
        let now_ms = monotonic_us() / 1_000;
        if matches!(self.body.get(), BodySeen::No(until_ms) if now_ms < until_ms) {
            self.totals.updates_unread.add(1);
            return false;
        }
        self.bodies.borrow_mut().insert(context, now_ms);
        true
    }

    /// Takes more bytes of a body that is being read; `false` if there is no room. What waits and what is read
    /// have one bound.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        let reading = self.reading.get().saturating_add(bytes);
        let fits = reading.saturating_add(self.queue.borrow().bytes()) <= self.capture.queue.bytes;
        if fits {
            self.reading.set(reading);
        }
        fits
    }

    /// Gives the bytes of a body back.
    pub(super) fn gives_back(&self, bytes: usize) {
        self.reading.set(self.reading.get().saturating_sub(bytes));
    }

    /// Envoy shows a body whose headers wait.
    pub(super) fn sees_body(&self) {
        self.body.set(BodySeen::Yes);
    }

    /// Logs the first failure of a row and the first success after it.
    fn log_outcome(&self, failure: Option<&str>) {
        let service = &self.sender.service;
        match (failure, self.failing.replace(failure.is_some())) {
            (None, true) => log::info!("unitring: {service}: data updates: work again"),
            (Some(why), false) => log::warn!("unitring: {service}: data updates: {why}"),
            _ => {}
        }
    }
}

fn put_in_force(context: u32) {
    if let Err(status) = hostcalls::set_effective_context(context) {
        log::error!("unitring: context {context} is gone: {status:?}");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
