//! The updates of one service in this VM on their way to the companion, and the answers that wait
//! for them.
//!
//! Batches are sent with the root context in force: a callout of a request would be cancelled when
//! its client leaves. [`unitring_balancer::capture::queue`] decides which updates are sent when, and their outcome.

mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use proxy_wasm::hostcalls;
use unitring_protocol::record::Value;
use unitring_protocol::updates::Update;

use super::call::http_call;
use super::callout::{Answer, Outcomes, Outgoing};
use super::clock::monotonic_us;
use super::quiet::Quiet;
use super::stats::{InstanceStats, ServiceStats};
use super::trouble::Trouble;
use unitring_balancer::capture::grammar::{Announced, Change};
use unitring_balancer::capture::message::{self, Sender};
use unitring_balancer::capture::queue::{Entry, Fate, Loss, Queue};
use unitring_balancer::settings::{Capture, CaptureMode, Companion, Settings};
use waiting::BodySeen;

/// While no answer waits, this many queued updates, or this many bytes, are sent before the next tick.
const SENT_EARLY: usize = 64;
const SENT_EARLY_BYTES: usize = 256 << 10;
/// How long an update waits that no answer waits for. The companion remembers applied updates for longer.
const KEPT_MS: u64 = 1_800_000;
/// How long after its timeout a callout without an answer is given up.
const LOST_MS: u64 = 5_000;

thread_local! {
    /// The token of each batch under way in this VM, and the queue that sent it.
    static CALLS: RefCell<Vec<(u32, Weak<HandOver>)>> = const { RefCell::new(Vec::new()) };
}

/// Takes the answer to a batch; `false` if the token is not that of a batch.
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
    outcomes: Outcomes,
    refused: Quiet,
    dropped: Quiet,
    totals: Rc<ServiceStats>,
}

/// The receivers of an update's outcome: the instance's stats, and the answer that waits for it.
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

impl HandOver {
    /// `None` unless updates are handed over.
    #[inline(never)]
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
            outcomes: Outcomes::default(),
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
            let entry = Entry {
                update,
                deadline_ms,
                teller: Teller {
                    instance: instance.cloned(),
                    hold: holds.then_some(context),
                },
            };
            if let Some(captured) = instance.and_then(|stats| stats.captured.as_ref()) {
                let bytes = entry.value_bytes();
                captured.bytes.add(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
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
        let outgoing = Outgoing {
            cluster: &self.companion.cluster,
            method: "POST",
            path: "/v1/updates".to_owned(),
            token: &self.companion.token,
            body: Some(body),
            timeout: self.capture.timeout,
        };
        put_in_force(self.root);
        let sent = http_call(&outgoing);
        put_in_force(context);
        sent.map_err(|status| outgoing.has_no_cluster(&status))
    }

    fn on_answer(&self, body_size: usize) {
        self.is_sending.set(false);
        let answer = Answer::received(body_size);
        let now_ms = monotonic_us() / 1_000;
        let mut queue = self.queue.borrow_mut();
        let (gone, failure) = match (answer.status.as_slice(), message::read(&answer.body)) {
            (b"200", Ok(failed)) => (queue.answered(failed, now_ms), None),
            (b"200", Err(error)) => {
                let why = format!("the companion's answer is not readable: {error}");
                (queue.failed(&why, now_ms), Some(why))
            }
            (status, _) => {
                let why = answer.shown();
                // The batch itself is wrong, so the next try would be, too.
                let gone = match status {
                    b"400" | b"413" => queue.refused(&why, now_ms),
                    _ => queue.failed(&why, now_ms),
                };
                (gone, Some(why))
            }
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

    /// Reports the outcome of updates; `context` is in force before and afterwards.
    fn tell(&self, gone: Vec<(Entry<Teller>, Fate)>, context: u32) {
        if gone.is_empty() {
            return;
        }
        for (entry, fate) in gone {
            let instance = entry.teller.instance.as_deref();
            match &fate {
                Fate::Stored => self.totals.updates_stored.add(1),
                Fate::Refused(why) => {
                    self.totals.refuse_updates(instance, 1);
                    let (dataset, key) = (&entry.update.dataset, &entry.update.key);
                    let service = &self.sender.service;
                    self.refused.warn(|| {
                        format!("{service}: the data update of {dataset}/{key} was refused: {why}")
                    });
                }
                Fate::Dropped(loss) => {
                    self.totals.drop_updates(instance, 1);
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
                // The answer that is being handled ends with this call.
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

    fn log_outcome(&self, failure: Option<&str>) {
        let what = format!("{}: handing data updates over", self.sender.service);
        self.outcomes.log(&what, failure.map_or(Ok(()), Err));
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
