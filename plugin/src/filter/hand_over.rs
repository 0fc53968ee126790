//! The updates of one service in this VM on their way to the companion, and the answers that wait
//! for them.
//!
//! Batches are sent with the root context in force: a callout of a request would be cancelled when
//! its client leaves. [`crate::capture::queue`] decides what is sent when, and what became of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
/// After Envoy did not show a body, how long none is waited for.
const UNREAD_MS: u64 = 10_000;

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
    /// The answers that wait for their bodies, and since when, while it is not known whether Envoy shows bodies.
    bodies: RefCell<BTreeMap<u32, u64>>,
    body: Cell<BodySeen>,
    /// Whether a batch is under way.
    is_sending: Cell<bool>,
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
    Unknown,
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
            body: Cell::new(BodySeen::Unknown),
            is_sending: Cell::new(false),
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
        let deadline_ms = now_ms.saturating_add(millis(self.capture.timeout));
        if holds {
            let left = updates.len();
            let hold = Hold { left, deadline_ms };
            self.holds.borrow_mut().insert(context, hold);
        }
        let mut gone = Vec::new();
        for update in updates {
            let update = self.numbered(update, body);
            if let Some(captured) = instance.and_then(|stats| stats.captured.as_ref()) {
                let bytes = update.value.as_ref().map_or(0, |value| value.0.len());
                captured.bytes.add(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
            let entry = Entry {
                update,
                deadline_ms: if holds { deadline_ms } else { u64::MAX },
                teller: Teller {
                    instance: instance.cloned(),
                    hold: holds.then_some(context),
                },
            };
            gone.extend(self.queue.borrow_mut().push(entry));
        }
        self.tell(gone, context);
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
        let waits = !self.holds.borrow().is_empty();
        let has_many = self.queue.borrow().len() >= SENT_EARLY;
        if waits || has_many {
            self.send(self.root, now_ms);
        }
    }

    /// The regular work, with the root context in force.
    pub(super) fn tick(&self) {
        let now_ms = monotonic_us() / 1_000;
        let gone = self.queue.borrow_mut().expire(now_ms);
        self.tell(gone, self.root);
        let late: Vec<u32> = {
            let holds = self.holds.borrow();
            let late = holds.iter().filter(|(_, hold)| hold.deadline_ms <= now_ms);
            late.map(|(context, _)| *context).collect()
        };
        for context in late {
            self.release(context, Some(Trouble::Late));
        }
        let timeout_ms = millis(self.capture.timeout);
        let unread: Vec<u32> = {
            let bodies = self.bodies.borrow();
            let unread = bodies
                .iter()
                .filter(|(_, since_ms)| now_ms.saturating_sub(**since_ms) >= timeout_ms);
            unread.map(|(context, _)| *context).collect()
        };
        for context in unread {
            self.bodies.borrow_mut().remove(&context);
            self.body
                .set(BodySeen::No(now_ms.saturating_add(UNREAD_MS)));
            self.totals.updates_unread.add(1);
            self.release(context, Some(Trouble::Unread));
        }
        put_in_force(self.root);
        self.send(self.root, now_ms);
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
            if is_over {
                self.release(hold, trouble);
            }
        }
        put_in_force(context);
    }

    /// Lets an answer go, or answers in its place. Its context is in force afterwards.
    fn release(&self, context: u32, trouble: Option<Trouble>) {
        self.holds.borrow_mut().remove(&context);
        put_in_force(context);
        match trouble {
            Some(trouble) => trouble.reply(),
            None => {
                if let Err(status) = hostcalls::resume_http_response() {
                    log::error!("unitring: an answer could not go on: {status:?}");
                }
            }
        }
    }

    /// The request of the context is over.
    pub(super) fn forget(&self, context: u32) {
        self.holds.borrow_mut().remove(&context);
        self.bodies.borrow_mut().remove(&context);
    }

    /// The answer of the context waits for its body. `false` if Envoy does not show bodies.
    pub(super) fn awaits_body(&self, context: u32) -> bool {
        let now_ms = monotonic_us() / 1_000;
        match self.body.get() {
            BodySeen::Yes => {}
            BodySeen::No(until_ms) if now_ms < until_ms => {
                self.totals.updates_unread.add(1);
                return false;
            }
            BodySeen::Unknown | BodySeen::No(_) => {
                self.bodies.borrow_mut().insert(context, now_ms);
            }
        }
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
        if self.body.replace(BodySeen::Yes) != BodySeen::Yes {
            self.bodies.borrow_mut().clear();
        }
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
