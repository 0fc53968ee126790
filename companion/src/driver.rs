//! Carries the inputs and effects of [`crate::unit`]: store and link on one side, the pure state
//! machine on the other. It decides nothing.

mod handle;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use unitring_protocol::ids::UnitId;

use crate::lead::Role;
use crate::links::{Command, Event};
use crate::metrics::Metrics;
use crate::now_ms;
use crate::store::{Lease, Records, StoreError};
use crate::unit::{Effect, Input, Note, Unit, message};

pub use handle::{Handle, Status};

/// How often time is told to the state machine when nothing else happens.
const TICK: Duration = Duration::from_millis(100);

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What was to be done, as it came out.
enum Done {
    Input(Input),
    /// Buckets that another companion wrote, and since when to ask next.
    Hints(BTreeSet<u8>, String),
}

/// One unit's sync with all that it touches.
pub struct Driver {
    unit: UnitId,
    machine: Unit,
    records: Arc<dyn Records>,
    metrics: Arc<Metrics>,
    handle: Handle,
    status: watch::Sender<Status>,
    commands: mpsc::Sender<Command>,
    lease: Arc<dyn Lease>,
    role: watch::Receiver<Role>,
    /// Since when hints were read; `None` while they are.
    hints: Option<String>,
    work: FuturesUnordered<Work>,
}

impl Driver {
    /// A driver with its ends of the handle and the link.
    pub fn new(
        (unit, machine): (UnitId, Unit),
        (records, lease): (Arc<dyn Records>, Arc<dyn Lease>),
        role: watch::Receiver<Role>,
        metrics: Arc<Metrics>,
        (handle, status): (Handle, watch::Sender<Status>),
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            unit,
            machine,
            records,
            metrics,
            handle,
            status,
            commands,
            lease,
            role,
            hints: Some(String::new()),
            work: FuturesUnordered::new(),
        }
    }

    /// Runs until the link is gone.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.handle.shared);
        // The machine's timers must not stand still because somebody set the clock back.
        let (started_ms, started) = (now_ms(), Instant::now());
        let elapsed_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let leads = self.role.borrow_and_update().term().is_some();
        self.handle(Input::Leads(leads), started_ms);
        loop {
            let input = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => match done {
                    Done::Input(input) => Some(input),
                    Done::Hints(buckets, last) => {
                        self.hints = Some(last);
                        (!buckets.is_empty()).then_some(Input::Written(buckets))
                    }
                },
                () = shared.wake.notified() => self.written(shared.take_dirty()),
                Ok(()) = self.role.changed() => {
                    Some(Input::Leads(self.role.borrow_and_update().term().is_some()))
                }
                _ = tick.tick() => {
                    self.read_hints();
                    Some(Input::Tick)
                }
            };
            if let Some(input) = input {
                self.handle(input, started_ms.saturating_add(elapsed_ms()));
            }
        }
    }

    /// Tells the machine, and does what follows.
    fn handle(&mut self, input: Input, now_ms: u64) {
        for effect in self.machine.handle(input, now_ms) {
            self.perform(effect);
        }
    }

    /// Buckets that were written here: for this machine, or for that of the leader.
    fn written(&mut self, buckets: BTreeSet<u8>) -> Option<Input> {
        if *self.role.borrow() != Role::Follower {
            return Some(Input::Written(buckets));
        }
        let lease = Arc::clone(&self.lease);
        tokio::spawn(async move {
            for bucket in buckets {
                // One that gets lost is made good by the leader's next count.
                if lease.hint(bucket).await.is_err() {
                    return;
                }
            }
        });
        None
    }

    /// Asks what the companions that do not lead have written.
    fn read_hints(&mut self) {
        if self.role.borrow().term().is_none() {
            return;
        }
        let Some(after) = self.hints.take() else {
            return;
        };
        let lease = Arc::clone(&self.lease);
        self.work.push(Box::pin(async move {
            match lease.hints(&after).await {
                Ok((buckets, last)) => Done::Hints(buckets, last),
                Err(_) => Done::Hints(BTreeSet::new(), after),
            }
        }));
    }

    /// What the link says, as an input.
    fn event(&mut self, event: Event) -> Option<Input> {
        match event {
            Event::Up => {
                tracing::info!(unit = %self.unit, "linked to the other units");
                self.metrics.link_up.set(1);
                self.status
                    .send_modify(|status| "ok".clone_into(&mut status.link));
                Some(Input::LinkUp)
            }
            Event::Down(why) => {
                self.metrics.link_up.set(0);
                self.metrics.link_failures.inc();
                if self.status.borrow().link != why {
                    tracing::warn!(unit = %self.unit, %why, "no link to the other units");
                }
                self.status.send_modify(|status| status.link = why);
                Some(Input::LinkDown)
            }
            Event::Published(id, confirmed) => Some(Input::Published(id, confirmed)),
            Event::Delivered(tag, bytes) => match message::decode(&bytes, &self.unit) {
                Ok(envelope) => Some(Input::Delivered(tag, envelope)),
                Err(poison) => {
                    tracing::warn!(unit = %self.unit, %poison, "message set aside");
                    self.metrics.poison_messages.inc();
                    self.command(Command::SetAside(tag));
                    None
                }
            },
        }
    }

    fn perform(&mut self, effect: Effect) {
        let records = Arc::clone(&self.records);
        match effect {
            Effect::Count => {
                let shared = Arc::clone(&self.handle.shared);
                let metrics = Arc::clone(&self.metrics);
                self.spawn(async move {
                    let written_before = shared.written.load(Ordering::Relaxed);
                    let waiting = seen(records.waiting().await);
                    if let Some(waiting) = &waiting {
                        shared.counted(waiting.values().sum(), written_before);
                        metrics
                            .outbox_ops
                            .set(shared.waiting.load(Ordering::Relaxed));
                    }
                    Input::Counted(waiting)
                });
            }
            Effect::ReadOutbox(bucket) => self.spawn(async move {
                Input::OutboxRead(bucket, seen(records.outbox(bucket, 0).await))
            }),
            Effect::Trim(bucket, through) => {
                let shared = Arc::clone(&self.handle.shared);
                self.spawn(async move {
                    let trimmed = seen(records.trim(bucket, through).await);
                    shared.trimmed(trimmed.unwrap_or(0));
                    Input::Trimmed(bucket, trimmed.is_some())
                });
            }
            Effect::Apply(tag, bucket, batch) => self.spawn(async move {
                Input::Applied(tag, seen(records.apply(bucket, &batch, now_ms()).await))
            }),
            Effect::ReadStates(purpose) => {
                self.spawn(async move { Input::States(purpose, seen(records.states().await)) })
            }
            Effect::ReadPage(bucket, page) => {
                self.spawn(async move { Input::PageRead(seen(records.page(bucket, page).await)) })
            }
            Effect::Publish(id, route, body) => match message::encode(&self.unit, body) {
                Ok(bytes) => {
                    if !self.command(Command::Publish { id, route, bytes }) {
                        self.spawn(std::future::ready(Input::Published(id, false)));
                    }
                }
                Err(error) => tracing::error!(%error, "a message has no JSON form"),
            },
            Effect::Ack(tag) => {
                self.command(Command::Ack(tag));
            }
            Effect::Note(note, count) => self.note(note, count),
            Effect::Compared(unit, comparison) => {
                if !comparison.diverged.is_empty() {
                    let buckets = &comparison.diverged;
                    tracing::warn!(with = %unit, ?buckets, "buckets differ: asking for a repair");
                }
                self.status.send_modify(|status| {
                    status.compared.insert(unit.to_string(), comparison);
                });
            }
        }
    }

    fn spawn(&self, work: impl Future<Output = Input> + Send + 'static) {
        self.work.push(Box::pin(async { Done::Input(work.await) }));
    }

    /// Hands a command to the link; the state machine keeps far under the bound.
    fn command(&self, command: Command) -> bool {
        let sent = self.commands.try_send(command);
        if let Err(error) = &sent {
            tracing::error!(%error, "the link does not keep up");
        }
        sent.is_ok()
    }

    fn note(&self, note: Note, count: u64) {
        let metrics = &self.metrics;
        let counter = match note {
            Note::OpsPublished => &metrics.ops_published,
            Note::PublishesFailed => &metrics.publishes_failed,
            Note::OpsReceived => &metrics.ops_received,
            Note::RecordsApplied => &metrics.records_applied,
            Note::Gaps => &metrics.sequence_gaps,
            Note::ApplyFailures => &metrics.apply_failures,
            Note::Diverged => &metrics.diverged_buckets,
            Note::Stalled => &metrics.stalled_buckets,
            Note::Repaired => &metrics.repaired_records,
            Note::RepairsDropped => &metrics.repairs_dropped,
        };
        counter.inc_by(count);
        if note == Note::Repaired && count > 0 {
            self.status
                .send_modify(|status| status.repaired_records += count);
        }
    }
}

/// What the store answered; why it did not is logged here, once.
fn seen<T>(answer: Result<T, StoreError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.is_transient() => {
            tracing::debug!(%error, "sync waits for the store");
            None
        }
        Err(error) => {
            tracing::error!(%error, "sync can't use the store");
            None
        }
    }
}
