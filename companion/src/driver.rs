//! Carries the inputs and effects of [`crate::unit`]: store and links on one side, the pure state
//! machine on the other. It decides nothing, but that only the companion that leads its unit syncs.

mod exchange;
mod gathering;
mod handle;
mod lag;
mod members;
mod perform;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use unitring_protocol::ids::UnitId;

use crate::config::SyncSettings;
use crate::lead::Role;
use crate::links::{Event, Links, Verdict, amqp};
use crate::metrics::Metrics;
use crate::now_ms;
use crate::store::{Backlog, Browse, Fleet, Lease, Records, StoreError};
use crate::unit::{Input, Moment, Rules, Unit, message};
use exchange::Exchange;
pub use gathering::Gathering;

pub use handle::{Handle, LinkStatus, Status};
pub use members::{DATASET as MEMBERS_DATASET, record as member_record};

/// How often time is told to the state machine when nothing else happens.
const TICK: Duration = Duration::from_millis(100);
/// How often loads and events are told to the others, and who is a member is read.
const EXCHANGE_EVERY: Duration = Duration::from_secs(1);

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What was to be done, as it came out.
enum Done {
    Inputs(Vec<Input>),
    /// Buckets that another companion wrote, and since when to ask next.
    Hints(BTreeSet<u8>, String),
    /// What is to be told to the others.
    Exchanged(Exchange, Vec<Input>),
    /// Who has left the group.
    Removed(Option<BTreeSet<UnitId>>),
}

/// What a driver touches.
#[derive(Clone)]
pub struct Parts {
    /// The store.
    pub records: Arc<dyn Records>,
    /// The same, looked over.
    pub browse: Arc<dyn Browse>,
    /// Loads and events.
    pub fleet: Arc<dyn Fleet>,
    /// Who leads.
    pub lease: Arc<dyn Lease>,
    /// Told of every event that is stored.
    pub events_changed: Arc<Notify>,
    /// Fixed data of other units on their way in.
    pub fixed: Gathering,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// One unit's sync with all that it touches.
pub struct Driver {
    unit: UnitId,
    settings: SyncSettings,
    tls: amqp::Tls,
    parts: Parts,
    handle: Handle,
    status: watch::Sender<Status>,
    role: watch::Receiver<Role>,
}

impl Driver {
    /// A driver with its end of the handle.
    pub fn new(
        unit: UnitId,
        settings: SyncSettings,
        tls: amqp::Tls,
        parts: Parts,
        (handle, status): (Handle, watch::Sender<Status>),
        role: watch::Receiver<Role>,
    ) -> Self {
        Self {
            unit,
            settings,
            tls,
            parts,
            handle,
            status,
            role,
        }
    }

    /// Runs for ever: syncs while this companion leads, and hints to who does while it does not.
    pub async fn run(mut self) {
        loop {
            let Some(term) = self.role.borrow_and_update().term() else {
                self.follow().await;
                continue;
            };
            let removed = match self.removed().await {
                Some(removed) => removed,
                None => continue,
            };
            let is_removed = removed.contains(&self.unit);
            let shared = &self.handle.shared;
            shared.is_removed.store(is_removed, Ordering::Relaxed);
            self.status.send_modify(|status| {
                status.begin(&self.settings.peers, &removed, is_removed);
            });
            if is_removed {
                tracing::warn!(unit = %self.unit, "this unit was removed from its group: it does not sync");
                self.stay_out().await;
                continue;
            }
            let mut session = Session::start(&self, term, removed);
            session.run(&mut self.role).await;
            self.parts.metrics.link_up.set(0);
            self.status.send_modify(Status::end);
        }
    }

    /// Until the role changes: tells whoever leads of what is written here.
    async fn follow(&mut self) {
        let shared = Arc::clone(&self.handle.shared);
        let mut count = tokio::time::interval(EXCHANGE_EVERY);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.status.send_modify(Status::end);
        loop {
            tokio::select! {
                changed = self.role.changed() => {
                    return if changed.is_err() { std::future::pending().await };
                }
                _ = count.tick() => {
                    // So that writes are refused here, too, if nobody leads for long.
                    let before = shared.written.load(Ordering::Relaxed);
                    if let Ok(waiting) = self.parts.records.waiting().await {
                        shared.counted(&waiting, before);
                    }
                    let own = std::iter::once(&self.unit);
                    if let Ok(removed) = members::removed(&*self.parts.records, own, now_ms()).await {
                        let is_removed = removed.contains(&self.unit);
                        shared.is_removed.store(is_removed, Ordering::Relaxed);
                    }
                }
                () = shared.wake.notified() => {
                    let buckets = shared.take_dirty();
                    if *self.role.borrow() != Role::Follower {
                        // Who leads from here on counts the outboxes.
                        continue;
                    }
                    for bucket in buckets {
                        // One that gets lost is made good by the leader's next count.
                        if self.parts.lease.hint(bucket).await.is_err() {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Who has left the group; waits for the store. `None` if the role changed.
    async fn removed(&mut self) -> Option<BTreeSet<UnitId>> {
        loop {
            let units = self.settings.peers.iter().chain([&self.unit]);
            match members::removed(&*self.parts.records, units, now_ms()).await {
                Ok(removed) => return Some(removed),
                Err(error) => tracing::debug!(%error, "sync waits for the store"),
            }
            tokio::select! {
                _ = self.role.changed() => return None,
                () = tokio::time::sleep(EXCHANGE_EVERY) => {}
            }
        }
    }

    /// Until this unit is a member again, or the role changes.
    async fn stay_out(&mut self) {
        loop {
            tokio::select! {
                _ = self.role.changed() => return,
                () = tokio::time::sleep(EXCHANGE_EVERY) => {}
            }
            match self.removed().await {
                Some(removed) if removed.contains(&self.unit) => {}
                _ => return,
            }
        }
    }
}

/// Sync from when this companion began to lead, with these members.
struct Session {
    unit: UnitId,
    term: u64,
    settings: SyncSettings,
    parts: Parts,
    handle: Handle,
    status: watch::Sender<Status>,
    machine: Unit,
    links: Links,
    /// Since when hints were read; `None` while they are.
    hints: Option<String>,
    /// What is exchanged beside records; `None` while it is.
    exchange: Option<Exchange>,
    /// Who has left, as the links know it.
    removed: BTreeSet<UnitId>,
    skews: BTreeMap<UnitId, i64>,
    work: FuturesUnordered<Work>,
    /// When the machine's time began: it must not stand still because somebody set the clock back.
    started: (u64, Instant),
}

impl Session {
    fn start(driver: &Driver, term: u64, removed: BTreeSet<UnitId>) -> Self {
        let settings = driver.settings.clone();
        let peers: BTreeSet<UnitId> = settings
            .peers
            .iter()
            .filter(|peer| !removed.contains(*peer))
            .cloned()
            .collect();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let rules = Rules {
            digest_interval_ms: ms(settings.digest_interval),
            keep_ms: ms(settings.tombstones_kept),
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
            tls: driver.tls.clone(),
            queue_bytes_max: settings.queue_bytes_max,
        });
        let exchange = Exchange::new(driver.unit.clone(), driver.parts.clone());
        Self {
            machine: Unit::new(driver.unit.clone(), peers, rules),
            unit: driver.unit.clone(),
            term,
            parts: driver.parts.clone(),
            handle: driver.handle.clone(),
            status: driver.status.clone(),
            settings,
            links,
            hints: Some(String::new()),
            exchange: Some(exchange),
            removed,
            skews: BTreeMap::new(),
            work: FuturesUnordered::new(),
            started: (now_ms(), Instant::now()),
        }
    }

    fn moment(&self) -> Moment {
        let (started_ms, started) = self.started;
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment {
            now_ms: started_ms.saturating_add(elapsed_ms),
            wall_ms: now_ms(),
        }
    }

    /// Runs until this companion leads no more, or the members are others.
    async fn run(&mut self, role: &mut watch::Receiver<Role>) {
        let mut tick = tokio::time::interval(TICK);
        let mut exchange = tokio::time::interval(EXCHANGE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        exchange.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.handle.shared);
        let mut company: Option<tokio::time::Instant> = None;
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
                    Done::Exchanged(exchange, inputs) => {
                        self.exchange = Some(exchange);
                        inputs.into_iter().for_each(|input| self.handle(input));
                    }
                    Done::Removed(Some(removed)) if removed != self.removed => return,
                    Done::Removed(_) => {}
                },
                () = shared.wake.notified(), if company.is_none() => {
                    company = Some(tokio::time::Instant::now() + linger);
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
                _ = exchange.tick() => self.exchange(),
            }
        }
    }

    /// Tells the machine, and does what follows.
    fn handle(&mut self, input: Input) {
        self.handle_with(input, &[]);
    }

    /// The same, for a delivery of these bytes.
    fn handle_with(&mut self, input: Input, bytes: &[u8]) {
        for effect in self.machine.handle(input, self.moment()) {
            self.perform(effect, bytes);
        }
    }

    /// What a link says.
    fn event(&mut self, event: Event) {
        match event {
            Event::Up(unit) => {
                tracing::info!(unit = %self.unit, to = %unit, "linked");
                self.link(&unit, handle::UP);
                self.handle(Input::LinkUp(unit));
            }
            Event::Down(unit, why) => {
                self.parts.metrics.link_failures.inc();
                if self.link(&unit, &why) {
                    tracing::warn!(unit = %self.unit, to = %unit, %why, "no link");
                }
                self.handle(Input::LinkDown(unit));
            }
            Event::Blocked(unit, Some(why)) => {
                self.parts.metrics.links_blocked.inc();
                tracing::warn!(unit = %self.unit, to = %unit, %why, "the broker takes nothing for now");
                self.link(&unit, &format!("blocked: {why}"));
            }
            Event::Blocked(unit, None) => {
                tracing::info!(unit = %self.unit, to = %unit, "the broker takes messages again");
                self.link(&unit, handle::UP);
            }
            Event::InboxUp => {
                tracing::info!(unit = %self.unit, "the unit's own queue is read");
                self.inbox(handle::UP);
            }
            Event::InboxDown(why) => {
                self.parts.metrics.link_failures.inc();
                if self.inbox(&why) {
                    tracing::warn!(unit = %self.unit, %why, "the unit's own queue is not read");
                }
                self.handle(Input::InboxDown);
            }
            Event::InboxWaits(why) => {
                if self.inbox(&why) {
                    tracing::warn!(unit = %self.unit, %why, "nothing comes in");
                }
            }
            Event::Limit(unit, bytes) => {
                tracing::warn!(unit = %self.unit, to = %unit, bytes, "its broker takes no larger message");
                self.handle(Input::Limit(unit, bytes));
            }
            Event::Published(unit, id, confirmed) => {
                self.handle(Input::Published(unit, id, confirmed));
            }
            Event::Delivered(tag, bytes) => match message::decode(&bytes, &self.unit) {
                Ok((envelope, aside)) => {
                    let from = envelope.from.clone();
                    for aside in &aside {
                        self.parts.metrics.records_set_aside.inc();
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

    /// Notes how a link is; whether that is new.
    fn link(&self, unit: &UnitId, state: &str) -> bool {
        self.note_status(|status| status.link_is(unit, state))
    }

    fn inbox(&self, state: &str) -> bool {
        self.note_status(|status| status.inbox_is(state))
    }

    fn note_status(&self, change: impl FnOnce(&mut Status) -> bool) -> bool {
        let mut is_new = false;
        self.status.send_if_modified(|status| {
            is_new = change(status);
            is_new
        });
        let is_up = u64::from(self.status.borrow().link == handle::UP);
        self.parts.metrics.link_up.set(is_up);
        is_new
    }

    /// Asks what the companions that do not lead have written.
    fn read_hints(&mut self) {
        let Some(after) = self.hints.take() else {
            return;
        };
        let lease = Arc::clone(&self.parts.lease);
        self.work.push(Box::pin(async move {
            match lease.hints(&after).await {
                Ok((buckets, last)) => Done::Hints(buckets, last),
                Err(_) => Done::Hints(BTreeSet::new(), after),
            }
        }));
    }

    /// Looks what there is to tell the others beside records, and who is a member.
    fn exchange(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            let work = exchange.gather();
            self.work.push(Box::pin(async {
                let (exchange, inputs) = work.await;
                Done::Exchanged(exchange, inputs)
            }));
        }
        let records = Arc::clone(&self.parts.records);
        let units: Vec<UnitId> = self
            .settings
            .peers
            .iter()
            .chain([&self.unit])
            .cloned()
            .collect();
        self.work.push(Box::pin(async move {
            let removed = members::removed(&*records, units.iter(), now_ms()).await;
            Done::Removed(removed.ok())
        }));
        let confirmed = self.machine.confirmed();
        self.status.send_if_modified(|status| {
            status.confirmed(confirmed);
            false
        });
    }

    /// Says what becomes of a delivery. Whoever reads the queue is there as long as its deliveries.
    fn judge(&self, verdict: Verdict) {
        if self.links.verdicts.send(verdict).is_err() {
            tracing::debug!("a verdict for nobody");
        }
    }
}

/// Until then; for ever without a then.
async fn until(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
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
