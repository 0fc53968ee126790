//! The state that a VM's streams share for one service: settings, the balancer, the stats.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use unitring_protocol::ids::ReporterId;
use unitring_routing::bounded::{Choice, Loads};
use unitring_routing::names::Names;
use unitring_routing::ring::{HostIndex, RingError};
use unitring_routing::table::Table;

use super::connections::Connections;
use super::hand_over::HandOver;
use super::stats::{InstanceStats, ServiceStats, Sides};
use unitring_balancer::balancer::{Balancer, Fallback, Fleet};
use unitring_balancer::capture::message::Sender;
use unitring_balancer::directory::stat_names::StatNames;
use unitring_balancer::directory::{Directory, Entry, Shown};
use unitring_balancer::drift::Drift;
use unitring_balancer::roster::Side;
use unitring_balancer::settings::{CaptureMode, Settings};
use unitring_balancer::tally::Growth;
use unitring_balancer::update_load::UpdateLoads;

/// One service as this VM routes it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) settings: Settings,
    pub(super) stats: Rc<ServiceStats>,
    /// Where data updates go; `None` unless they are handed over.
    pub(super) hand_over: Option<Rc<HandOver>>,
    pub(super) sides: Cell<Sides>,
    pub(super) connections: Connections,
    routing: RefCell<Routing>,
    /// Buffer for the value of the steering header, reused by each request.
    header: RefCell<String>,
    /// Estimates are read anew in each round, from one tick to the next.
    round: Cell<u32>,
    failures_seen: Cell<u64>,
    /// Requests placed so far; wraps around. It decides which requests are sampled.
    placed: Cell<u32>,
    update_loads: RefCell<UpdateLoads>,
}

/// One of this many requests is sampled: Envoy is asked where it ran.
const SAMPLE_EVERY: u32 = 256;
/// How many removed entries between two that stay one pass can skip.
const AHEAD: usize = 8;
/// The first requests of a VM, all of which are sampled.
const SAMPLED_FIRST: u32 = 8;

#[derive(Debug)]
struct Routing {
    balancer: Balancer,
    routed: Rc<Routed>,
    /// Every stat that this VM ever defined. It never shrinks, since Envoy's stats never do; the
    /// directory bounds the names.
    defined: Defined,
}

/// Sorted by name. A tree would add more code to every VM than all the rest of this file.
type Defined = Vec<(String, Rc<InstanceStats>)>;

/// The instances that requests are placed on. A request keeps those of its time, since its retries
/// use the same list.
#[derive(Debug)]
pub(super) struct Routed {
    directory: Arc<Directory>,
    /// Per entry of the directory.
    entries: Vec<Rc<InstanceStats>>,
    /// Per host of the table.
    hosts: Vec<Rc<InstanceStats>>,
    /// The version of the table: text, so that no request has to write it.
    ring: String,
}

impl Routed {
    pub(super) fn ring(&self) -> &str {
        &self.ring
    }

    pub(super) fn host(&self, index: HostIndex) -> Option<&Rc<InstanceStats>> {
        self.hosts.get(index.get())
    }

    /// The id and the stats of the instance at an address.
    pub(super) fn at(&self, address: &str) -> Option<(&str, &Rc<InstanceStats>)> {
        let mut entries = self.directory.entries().iter().zip(&self.entries);
        entries
            .find(|(entry, _)| entry.member.address == address)
            .map(|(entry, stats)| (entry.member.id.as_str(), stats))
    }
}

/// Where the filter places a request.
pub(super) struct Placement {
    pub(super) routed: Rc<Routed>,
    pub(super) choice: Choice,
    /// The table that the choice was made with.
    table: Arc<Table>,
}

impl Placement {
    /// The index of the candidate with this address; `None` if no candidate has it.
    pub(super) fn place_of(&self, address: &str) -> Option<usize> {
        let candidates = self.choice.candidates.as_slice();
        let address_of = |host: &HostIndex| self.table.host(*host).map(|m| m.address.as_str());
        candidates
            .iter()
            .position(|host| address_of(host) == Some(address))
    }
}

impl Service {
    /// `root` is the VM's root context, which ticks at this period, and `source` and `vm` name it to the companion.
    #[inline(never)]
    pub(super) fn new(
        settings: Settings,
        (root, tick): (u32, Duration),
        source: ReporterId,
        vm: u64,
    ) -> Self {
        let stats = ServiceStats::define(&settings.stat_name, settings.load.total_lag());
        let stats = Rc::new(stats);
        let sender = Sender {
            source,
            vm,
            service: settings.service.clone(),
        };
        let hand_over = HandOver::new(root, sender, &settings, tick, Rc::clone(&stats));
        let balancer = Balancer::new(&settings);
        let nobody = Routed {
            directory: Arc::clone(balancer.directory()),
            entries: Vec::new(),
            hosts: Vec::new(),
            ring: balancer.table().version(),
        };
        Self {
            stats,
            hand_over,
            settings,
            sides: Cell::default(),
            connections: Connections::new(),
            routing: RefCell::new(Routing {
                balancer,
                routed: Rc::new(nobody),
                defined: Defined::new(),
            }),
            header: RefCell::default(),
            round: Cell::new(1),
            failures_seen: Cell::new(0),
            placed: Cell::new(0),
            update_loads: RefCell::default(),
        }
    }

    /// Places a request. It counts as in flight on the first candidate from now on, unless all
    /// instances are full.
    pub(super) fn place(&self, hash: Option<u64>) -> Result<Placement, Fallback> {
        let routing = self.routing.borrow();
        let gauges = Gauges {
            service: self,
            hosts: &routing.routed.hosts,
        };
        let choice = routing.balancer.decide(hash, &gauges)?;
        Ok(Placement {
            routed: Rc::clone(&routing.routed),
            table: Arc::clone(routing.balancer.table()),
            choice,
        })
    }

    /// Whether the request that was just placed is sampled.
    pub(super) fn samples_this(&self) -> bool {
        let placed = self.placed.get();
        self.placed.set(placed.wrapping_add(1));
        placed < SAMPLED_FIRST || placed.is_multiple_of(SAMPLE_EVERY)
    }

    /// Passes the value of the steering header to `hand_over`.
    pub(super) fn with_header(&self, choice: &Choice, hand_over: impl FnOnce(&str)) {
        let mut header = self.header.borrow_mut();
        let routing = self.routing.borrow();
        routing.balancer.write_candidates(choice, &mut header);
        hand_over(&header);
    }

    /// Routes by another directory. Returns the tables before and after.
    pub(super) fn install(
        &self,
        directory: Directory,
    ) -> Result<(Arc<Table>, Arc<Table>), RingError> {
        let mut routing = self.routing.borrow_mut();
        let Routing {
            balancer,
            routed,
            defined,
        } = &mut *routing;
        let old = balancer.install(directory)?;
        let directory = Arc::clone(balancer.directory());
        let mut kept = routed.directory.entries().iter().zip(&routed.entries);
        let stats = |entry: &Arc<Entry>| {
            // Most entries are those of before, in the same order.
            let same = kept
                .clone()
                .take(AHEAD)
                .position(|(had, _)| Arc::ptr_eq(had, entry));
            match same.and_then(|at| kept.nth(at)) {
                Some((_, stats)) => Rc::clone(stats),
                None => stats_of(defined, &self.settings, &entry.stat),
            }
        };
        let entries: Vec<Rc<InstanceStats>> = directory.entries().iter().map(stats).collect();
        let hosts = hosts_of(balancer.table(), &directory, &entries);
        *routed = Rc::new(Routed {
            directory,
            hosts,
            entries,
            ring: balancer.table().version(),
        });
        self.round.update(|round| round.wrapping_add(1));
        Ok((old, Arc::clone(balancer.table())))
    }

    pub(super) fn directory(&self) -> Arc<Directory> {
        Arc::clone(self.routing.borrow().balancer.directory())
    }

    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(self.routing.borrow().balancer.table())
    }

    pub(super) fn routed(&self) -> Rc<Routed> {
        Rc::clone(&self.routing.borrow().routed)
    }

    pub(super) fn set_fleet(&self, fleet: Fleet) {
        self.routing.borrow_mut().balancer.set_fleet(fleet);
    }

    /// Flushes what this VM has counted, and drops a stale snapshot.
    pub(super) fn tick(&self, now_ms: u64) {
        if self.routing.borrow_mut().balancer.drop_stale_fleet(now_ms) {
            self.stats.fleet_stale.add(1);
        }
        self.stats.in_flight.flush(self.sides.get());
        self.stats.flush();
        self.round.update(|round| round.wrapping_add(1));
        let failures = self.stats.failures.show();
        let more = self.failures_seen.replace(failures) != failures;
        for (_, stats) in &self.routing.borrow().defined {
            stats.flush();
            // Another VM may have seen the failures in a row that a success here ends.
            if more && stats.failures_in_row.show() > 0 {
                stats.failing.set(true);
            }
        }
        self.weigh_updates(now_ms);
        if let Some(hand_over) = &self.hand_over {
            hand_over.tick();
        }
    }

    /// The values of a stat, for the whole process.
    pub(super) fn shown(&self, stat: &str) -> Shown {
        self.stats_named(stat).shown(self.sides.get())
    }

    /// The stats of an instance of the directory in force.
    fn stats_at(&self, id: &str) -> Option<Rc<InstanceStats>> {
        let routed = self.routed();
        let mut entries = routed.directory.entries().iter().zip(&routed.entries);
        let found = entries.find(|(entry, _)| entry.member.id == id);
        found.map(|(_, stats)| Rc::clone(stats))
    }

    /// Failures of an instance since its last success.
    pub(super) fn failures_in_row(&self, id: &str) -> u64 {
        self.stats_at(id)
            .map_or(0, |stats| stats.failures_in_row.show())
    }

    pub(super) fn forgive(&self, id: &str) {
        if let Some(stats) = self.stats_at(id) {
            stats.failures_in_row.set(0);
        }
    }

    /// Adds the growth of Envoy's counts of an instance since the last look.
    /// `answers` as in [`Growth::failures_in_row`].
    pub(super) fn add(&self, growth: &Growth, answers: Option<u64>) {
        let Some(stats) = self.stats_at(&growth.id) else {
            return;
        };
        stats.calls.add(growth.calls);
        stats.failures.add(growth.failures);
        if growth.of_service {
            self.stats.failures.add(growth.failures);
        }
        let before = stats.failures_in_row.show();
        let after = growth.failures_in_row(before, answers);
        if after != before {
            stats.set_row(after);
        }
        stats.flush();
    }

    /// The name of a stat that Envoy does not keep; `None` if it keeps all that can be checked.
    pub(super) fn lost_stat(&self) -> Option<String> {
        let (routed, sides) = (self.routed(), self.sides.get());
        let of_instance = || {
            let mut entries = routed.directory.entries().iter().zip(&routed.entries);
            entries.find_map(|(entry, stats)| {
                let lost = stats.lost(sides)?;
                Some(format!("{}.{lost}", entry.stat))
            })
        };
        let lost = self.stats.lost(sides).map(str::to_owned);
        let lost = lost.or_else(of_instance)?;
        let service = &self.settings.stat_name;
        Some(format!("wasmcustom.unitring.{service}.{lost}"))
    }

    /// Requests in flight by this process's gauges, by id, each id once.
    pub(super) fn gauges(&self) -> Vec<(String, u64)> {
        let routed = self.routed();
        let entries = routed.directory.entries();
        let ids = Names::of(entries.iter().map(|entry| entry.member.id.as_str()));
        let shown = |at: usize| {
            let stats = routed.entries.get(at)?;
            Some(stats.in_flight.show(self.sides.get()))
        };
        let all = ids.each();
        all.filter_map(|(id, at)| Some((id.to_owned(), shown(at)?)))
            .collect()
    }

    pub(super) fn set_drift(&self, drift: Drift) {
        self.routing.borrow_mut().balancer.set_drift(drift);
    }

    /// The load of an instance, its gauge corrected by Envoy's count.
    pub(super) fn load_of(&self, entry: &Entry) -> Shown {
        let shown = self.shown(&entry.stat);
        let balancer = &self.routing.borrow().balancer;
        let more = balancer.drift_of(&entry.member.id);
        Shown {
            in_flight: shown.in_flight.saturating_add_signed(more),
            update_load: balancer.update_load_of(&entry.member.id),
            ..shown
        }
    }

    /// Counts the updates of each instance in its load, if they weigh anything.
    fn weigh_updates(&self, now_ms: u64) {
        let weight = self.settings.load.update_weight;
        let mut loads = self.update_loads.borrow_mut();
        if weight == 0 || !loads.is_due(now_ms) {
            return;
        }
        let routed = self.routed();
        let entries = routed.directory.entries().iter().zip(&routed.entries);
        let counts = entries.map(|(entry, stats)| (entry.member.id.clone(), stats.updates.show()));
        let loads = loads.look(weight, counts.collect(), now_ms);
        self.routing.borrow_mut().balancer.set_update_loads(loads);
    }

    /// Requests in flight by id as the bound sees them: this process plus the rest of the fleet.
    pub(super) fn fleet_loads(&self) -> Vec<(String, u64)> {
        let routing = self.routing.borrow();
        let hosts = routing.balancer.table().hosts().iter();
        let hosts = hosts.zip(&routing.routed.hosts).enumerate();
        hosts
            .map(|(index, (host, stats))| {
                let rest = routing.balancer.rest_of(index);
                let here = stats.in_flight.show(self.sides.get());
                let here = here.saturating_add_signed(routing.balancer.correction_of(index));
                (host.id.clone(), here.saturating_add(rest))
            })
            .collect()
    }

    /// Data updates per 1,000 seconds by id, over the fleet.
    pub(super) fn fleet_update_rates(&self) -> Vec<(String, u64)> {
        let routing = self.routing.borrow();
        let rates = routing.balancer.update_rates();
        rates.map(|(id, rate)| (id.to_owned(), rate)).collect()
    }

    /// Moves this VM's part of in-flight to another side.
    pub(super) fn settle(&self, from: Option<Side>, to: Side) {
        self.stats.in_flight.settle(from, to);
        for (_, stats) in &self.routing.borrow().defined {
            stats.in_flight.settle(from, to);
        }
    }

    /// Clears one side of every stat that any VM may have counted on: `names` has every name ever
    /// given.
    pub(super) fn clear(&self, side: Side, names: &StatNames) {
        self.stats.in_flight.clear(side);
        for stat in names.given() {
            self.stats_named(&stat).in_flight.clear(side);
        }
    }

    fn stats_named(&self, stat: &str) -> Rc<InstanceStats> {
        let mut routing = self.routing.borrow_mut();
        stats_of(&mut routing.defined, &self.settings, stat)
    }
}

/// The stats of each host of a table, whose hosts are those of the directory, or some of them.
#[inline(never)]
fn hosts_of(
    table: &Table,
    directory: &Directory,
    entries: &[Rc<InstanceStats>],
) -> Vec<Rc<InstanceStats>> {
    let members = directory.entries().iter().map(|entry| &entry.member);
    let hosts = table.hosts().iter();
    // Where the table leaves no member out, the order is the same.
    if hosts
        .clone()
        .map(|host| &host.id)
        .eq(members.clone().map(|member| &member.id))
    {
        return entries.to_vec();
    }
    let ids = Names::of(members.map(|member| member.id.as_str()));
    let hosts = hosts.filter_map(|host| entries.get(ids.last(&host.id)?).cloned());
    hosts.collect()
}

fn stats_of(defined: &mut Defined, settings: &Settings, stat: &str) -> Rc<InstanceStats> {
    let place = defined.binary_search_by(|(name, _)| name.as_str().cmp(stat));
    if let Some((_, stats)) = place.ok().and_then(|at| defined.get(at)) {
        return Rc::clone(stats);
    }
    let captures = settings.capture.mode != CaptureMode::Off;
    let stats = InstanceStats::define(&settings.stat_name, stat, captures);
    let stats = Rc::new(stats);
    let (Ok(at) | Err(at)) = place;
    defined.insert(at, (stat.to_owned(), Rc::clone(&stats)));
    stats
}

/// The gauges of this process.
struct Gauges<'a> {
    service: &'a Service,
    hosts: &'a [Rc<InstanceStats>],
}

impl Gauges<'_> {
    fn of<T>(&self, host: usize, what: impl Fn(&InstanceStats) -> T) -> Option<T> {
        self.hosts.get(host).map(|stats| what(stats))
    }
}

impl Loads for Gauges<'_> {
    fn take(&self, host: usize) {
        self.of(host, |stats| stats.begin(self.service.sides.get()));
    }

    fn give_back(&self, host: usize) {
        self.of(host, |stats| stats.end(self.service.sides.get()));
    }

    fn in_flight(&self, host: usize) -> u64 {
        let sides = self.service.sides.get();
        self.of(host, |stats| stats.in_flight.show(sides))
            .unwrap_or(0)
    }

    fn estimate(&self, host: usize) -> u64 {
        let (round, sides) = (self.service.round.get(), self.service.sides.get());
        self.of(host, |stats| stats.estimate(round, sides))
            .unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.service.stats.in_flight.show(self.service.sides.get())
    }
}
