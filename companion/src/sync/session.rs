//! Carries the inputs and effects of [`machine`](super::machine): store and links on one side, the
//! pure state machine on the other. It decides nothing.

mod beside;
mod perform;
mod traced;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use unitring_protocol::envelope::{Body, Envelope};
use unitring_protocol::ids::UnitId;

use super::Parts;
use super::driver::Driver;
use super::gossip::{Gathered, Gossip};
use super::handle::Handle;
use super::links::{Event, Links, Verdict, amqp};
use super::machine::{Input, Machine, Moment, Rules, message};
use super::silence::Silence;
use super::skew_alarm::SkewAlarms;
use super::status::Status;
use crate::clock::{self, now_ms};
use crate::config::SyncSettings;
use crate::leadership::Role;
use crate::states::LinkState;
use crate::store::Backlog;
use traced::Sent;

/// How often the state machine gets a tick when nothing else happens.
const TICK: Duration = Duration::from_millis(100);
/// How often loads and events are sent to the peers, and membership is read.
const GOSSIP_EVERY: Duration = Duration::from_secs(1);

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The result of asynchronous work.
enum Done {
    Inputs(Vec<Input>),
    /// Buckets that a follower wrote, and the position to read hints from next.
    Hints(BTreeSet<u8>, String),
    /// Messages for the peers, and the gossip state to gather from next.
    Gossiped(Gathered),
    /// The units that left the group; `None` if the store did not answer.
    Removed(Option<BTreeSet<UnitId>>),
}

/// Sync during one term of leadership, with a fixed set of members.
pub(super) struct Session {
    unit: UnitId,
    term: u64,
    settings: SyncSettings,
    access: amqp::Access,
    parts: Parts,
    handle: Handle,
    status: watch::Sender<Status>,
    machine: Machine,
    links: Links,
    /// The position to read hints from next; `None` while a read is under way.
    hints: Option<String>,
    /// The state of gossip; `None` while it is being gathered.
    gossip: Option<Gossip>,
    /// The units that had left when the links were started.
    removed: BTreeSet<UnitId>,
    /// When each of them was told so, by the machine's time.
    told_ms: BTreeMap<UnitId, u64>,
    skews: SkewAlarms,
    /// By the machine's time.
    silence: Silence,
    /// The spans of messages on their way.
    sent: Sent,
    work: FuturesUnordered<Work>,
    /// When the machine's time began. It advances by the monotonic clock, so that it does not stand
    /// still when the wall clock is set back.
    started: (u64, Instant),
}

impl Session {
    pub(super) fn start(driver: &Driver, term: u64, removed: BTreeSet<UnitId>) -> Self {
        let settings = driver.settings.clone();
        let peers: BTreeSet<UnitId> = settings
            .peers
            .iter()
            .filter(|peer| !removed.contains(*peer))
            .cloned()
            .collect();
        let rules = Rules {
            digest_interval_ms: millis(settings.digest_interval),
            keep_ms: millis(settings.tombstones_kept),
            outbox_max: Backlog {
                ops: settings.outbox_max,
                bytes: settings.outbox_bytes_max,
            },
            repair_rate: settings.repair_rate,
        };
        let urls = peers
            .iter()
            .map(|peer| (peer.clone(), settings.broker(peer).clone()));
        let links = amqp::start(&amqp::Settings {
            unit: (driver.unit.clone(), settings.amqp_url.clone()),
            peers: urls.collect(),
            removed: removed.clone(),
            access: driver.access.clone(),
            queue_bytes_max: settings.queue_bytes_max,
        });
        let gossip = Gossip::new(driver.unit.clone(), driver.parts.clone());
        let started = (now_ms(), clock::now());
        let skews = SkewAlarms::new(millis(settings.skew_max));
        let silence = Silence::new(rules.digest_interval_ms, started.0);
        Self {
            machine: Machine::new(driver.unit.clone(), peers, rules),
            unit: driver.unit.clone(),
            access: driver.access.clone(),
            term,
            parts: driver.parts.clone(),
            handle: driver.handle.clone(),
            status: driver.status.clone(),
            settings,
            links,
            hints: Some(String::new()),
            gossip: Some(gossip),
            removed,
            told_ms: BTreeMap::new(),
            skews,
            silence,
            sent: Sent::default(),
            work: FuturesUnordered::new(),
            started,
        }
    }

    fn moment(&self) -> Moment {
        let (started_ms, started) = self.started;
        let elapsed_ms = millis(clock::since(started));
        Moment {
            now_ms: started_ms.saturating_add(elapsed_ms),
            wall_ms: now_ms(),
        }
    }

    /// Runs until this companion no longer leads, or the members change.
    pub(super) async fn run(&mut self, role: &mut watch::Receiver<Role>) {
        let mut tick = tokio::time::interval(TICK);
        let mut gossip = tokio::time::interval(GOSSIP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        gossip.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.handle.shared);
        let mut company: Option<tokio::time::Instant> = None;
        self.identify();
        loop {
            let linger = self.settings.linger;
            tokio::select! {
                event = self.links.events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => match done {
                    Done::Inputs(inputs) => {
                        inputs.into_iter().for_each(|input| self.handle(input));
                    }
                    Done::Hints(buckets, last) => {
                        self.hints = Some(last);
                        if !buckets.is_empty() {
                            self.handle(Input::Written(buckets));
                        }
                    }
                    Done::Gossiped(gathered) => self.gossiped(gathered),
                    Done::Removed(Some(removed)) if removed != self.removed => return,
                    Done::Removed(_) => {}
                },
                () = shared.wake.notified(), if company.is_none() => {
                    company = Some(clock::timer() + linger);
                }
                () = until(company) => {
                    company = None;
                    self.handle(Input::Written(shared.take_dirty()));
                }
                _ = role.changed() => {
                    if role.borrow_and_update().term().is_none() {
                        return;
                    }
                }
                _ = tick.tick() => {
                    self.read_hints();
                    self.handle(Input::Tick);
                }
                _ = gossip.tick() => self.gossip(),
            }
        }
    }

    /// Passes an input to the machine and performs the effects.
    fn handle(&mut self, input: Input) {
        self.handle_with(input, &[]);
    }

    /// The same for a delivery with these bytes.
    fn handle_with(&mut self, input: Input, bytes: &[u8]) {
        if let Input::Published(unit, id, is_confirmed) = &input {
            self.sent.published(unit, *id, *is_confirmed);
        }
        for effect in self.machine.handle(input, self.moment()) {
            self.perform(effect, bytes);
        }
    }

    /// Handles an event of the links.
    fn event(&mut self, event: Event) {
        match event {
            Event::Up(unit) => {
                tracing::info!(unit = %self.unit, to = %unit, "linked");
                self.link(&unit, LinkState::Up);
                self.handle(Input::LinkUp(unit));
            }
            Event::Down(unit, why) => {
                self.parts.metrics.link_failures.inc();
                if self.link(&unit, LinkState::Down(why.clone())) {
                    tracing::warn!(unit = %self.unit, to = %unit, %why, "no link");
                }
                self.sent.link_down(&unit);
                self.handle(Input::LinkDown(unit));
            }
            Event::Blocked(unit, Some(why)) => {
                self.parts.metrics.links_blocked.inc();
                tracing::warn!(unit = %self.unit, to = %unit, %why, "the broker blocks the connection");
                self.link(&unit, LinkState::Blocked(why));
            }
            Event::Blocked(unit, None) => {
                tracing::info!(unit = %self.unit, to = %unit, "the broker takes messages again");
                self.link(&unit, LinkState::Up);
            }
            Event::InboxUp => {
                tracing::info!(unit = %self.unit, "the unit's own queue is read");
                self.inbox(LinkState::Up);
            }
            Event::InboxDown(why) => {
                self.parts.metrics.link_failures.inc();
                if self.inbox(LinkState::Down(why.clone())) {
                    tracing::warn!(unit = %self.unit, %why, "the unit's own queue is not read");
                }
                self.handle(Input::InboxDown);
            }
            Event::InboxWaits(why) => {
                if self.inbox(LinkState::Down(why.clone())) {
                    tracing::warn!(unit = %self.unit, %why, "the unit's queue delivers no messages");
                }
            }
            Event::Limit(unit, bytes) => {
                tracing::warn!(unit = %self.unit, to = %unit, bytes, "the peer's broker limits the message size");
                self.handle(Input::Limit(unit, bytes));
            }
            Event::Published(unit, id, confirmed) => {
                self.handle(Input::Published(unit, id, confirmed));
            }
            Event::Delivered(tag, bytes) => match message::decode(&bytes, &self.unit) {
                Ok((envelope, aside)) => {
                    let from = envelope.from.clone();
                    self.note_heard(&envelope);
                    self.parts.metrics.records_set_aside.inc_by(aside.count);
                    for aside in &aside.named {
                        self.set_aside(&from, &aside.name, &aside.why);
                    }
                    self.handle_with(Input::Delivered(tag, envelope), &bytes);
                }
                Err(poison) => {
                    tracing::warn!(unit = %self.unit, %poison, "message set aside");
                    self.parts.metrics.poison_messages.inc();
                    self.judge(Verdict::SetAside(tag, bytes));
                }
            },
        }
    }

    /// Notes that a peer was heard.
    fn note_heard(&mut self, envelope: &Envelope) {
        let from = &envelope.from;
        if !self.settings.peers.contains(from) {
            return;
        }
        let (interval_ms, store) = match &envelope.body {
            Body::Digests {
                interval_ms, store, ..
            } => (*interval_ms, *store),
            _ => (None, None),
        };
        let heard_ms = self.moment().now_ms;
        self.silence.heard(from, interval_ms, heard_ms);
        self.status.send_if_modified(|status| {
            status.heard(from, now_ms());
            if let Some(store) = store {
                status.store_heard(from, store);
            }
            false
        });
    }

    /// Sets the state of a link; returns whether it changed.
    fn link(&self, unit: &UnitId, state: LinkState) -> bool {
        self.note_status(|status| status.link_is(unit, state))
    }

    fn inbox(&self, state: LinkState) -> bool {
        self.note_status(|status| status.inbox_is(state))
    }

    fn note_status(&self, change: impl FnOnce(&mut Status) -> bool) -> bool {
        let mut is_new = false;
        self.status.send_if_modified(|status| {
            is_new = change(status);
            is_new
        });
        let is_up = u64::from(self.status.borrow().link.is_up());
        self.parts.metrics.link_up.set(is_up);
        is_new
    }

    /// Reads the identity of the store, which may be away for now.
    fn identify(&mut self) {
        let store = Arc::clone(&self.parts.store);
        self.work.push(Box::pin(async move {
            loop {
                match store.identity().await {
                    Ok(identity) => return Done::Inputs(vec![Input::Identity(identity)]),
                    Err(error) => tracing::debug!(%error, "the store's identity is not known yet"),
                }
                tokio::time::sleep(GOSSIP_EVERY).await;
            }
        }));
    }

    /// Reads which buckets followers wrote.
    fn read_hints(&mut self) {
        let Some(after) = self.hints.take() else {
            return;
        };
        let store = Arc::clone(&self.parts.store);
        self.work.push(Box::pin(async move {
            match store.hints(&after).await {
                Ok((buckets, last)) => Done::Hints(buckets, last),
                Err(_) => Done::Hints(BTreeSet::new(), after),
            }
        }));
    }

    /// Sends the verdict on a delivery. The reader of the queue lives as long as its deliveries.
    fn judge(&self, verdict: Verdict) {
        if self.links.verdicts.send(verdict).is_err() {
            tracing::debug!("verdict dropped: the reader has ended");
        }
    }
}

/// A duration in ms.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps until that instant; for ever if there is none.
async fn until(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
