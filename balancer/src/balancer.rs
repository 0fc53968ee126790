//! Hash key, gauges and the rest of the fleet → candidates and the reason.
//!
//! In-flight of an instance = the gauge of this process, corrected by its drift, + the rest of the
//! fleet from the last snapshot. All Envoys divide the free capacity among themselves. A stale
//! snapshot counts as no fleet.

use std::sync::Arc;

use unitring_protocol::snapshot::ServiceSnapshot;
use unitring_routing::bounded::{Choice, Loads, Share};
use unitring_routing::names::Names;
use unitring_routing::ring::RingError;
use unitring_routing::table::{Left, Table};

use crate::directory::Directory;
use crate::drift::Drift;
use crate::placement::{LeftAll, Placing};
use crate::settings::{Load, Scope, Settings};

/// Why Envoy's own policy chooses instead of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The request has none of the key's sources.
    NoKey,
    /// No instances are known, or none may take requests.
    NoRing,
    /// A header cannot name the instance that owns the key.
    Unnameable,
    /// Several addresses share the name of the instance that owns the key.
    Ambiguous,
    /// Envoy's policy places every request of the service.
    Left(LeftAll),
}

impl Fallback {
    /// The reason as an access log has it: the name of the stat that counts it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "fallback.no_key",
            Self::NoRing => "fallback.no_ring",
            Self::Unnameable => "fallback.unnameable",
            Self::Ambiguous => "fallback.ambiguous",
            Self::Left(_) => "fallback.left",
        }
    }
}

/// The most requests in flight on an instance that a snapshot counts as. No fleet has as many, and sums of it stay
/// below the limits of numbers: at a limit, an Envoy could no longer tell its own requests from others'.
const SHOWN_MAX: u64 = 1 << 40;

/// A snapshot and the time it arrived, as kept in shared data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// The load of the other Envoys.
    pub rest: ServiceSnapshot,
}

/// The state by which a service is routed: by one VM of the filter, or by all workers of the native
/// module, which share one immutable state.
#[derive(Debug, Clone)]
pub struct Balancer {
    load: Load,
    wanted: usize,
    directory: Arc<Directory>,
    table: Arc<Table>,
    fleet: Option<Fleet>,
    /// Per host of the table: its load in the snapshot, and this process's part.
    shares: Vec<Share>,
    /// Whether the snapshot has what is needed to divide free capacity: a rank, and other
    /// reporters.
    divides: bool,
    rest_total: u64,
    drift: Drift,
    /// The load of data updates, by id; instances without updates are absent.
    updates: Vec<(String, u64)>,
    /// The correction of each gauge, per host of the table: its error and the load of its updates. Empty while
    /// all are 0.
    corrections: Vec<i64>,
    correction_total: i64,
}

impl Balancer {
    /// A balancer that knows no instances yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            load: settings.load.clone(),
            wanted: settings.steer.candidates,
            directory: Arc::new(Directory::empty(Placing::unasked(settings))),
            table: Arc::new(Table::empty(settings.rule)),
            fleet: None,
            shares: Vec::new(),
            divides: false,
            rest_total: 0,
            drift: Drift::default(),
            updates: Vec::new(),
            corrections: Vec::new(),
            correction_total: 0,
        }
    }

    /// The table in force: the instances on their rings.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The directory in force: the instances with their stats.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Routes by `directory` from now on, and returns the table that was in force before.
    ///
    /// # Errors
    /// If its ring would be too large; the old directory stays in force.
    pub fn install(&mut self, directory: Directory) -> Result<Arc<Table>, RingError> {
        let Placing { rule, left } = directory.placing();
        let table = match left {
            Some(_) => Table::empty(rule),
            None => self.table.update_by(directory.members(), rule)?,
        };
        self.directory = Arc::new(directory);
        let old = std::mem::replace(&mut self.table, Arc::new(table));
        self.spread_fleet();
        self.spread_drift();
        Ok(old)
    }

    /// Corrects the gauges by this drift.
    pub fn set_drift(&mut self, drift: Drift) {
        self.drift = drift;
        self.spread_drift();
    }

    /// Counts data updates as this many requests in flight.
    pub fn set_update_loads(&mut self, loads: &[(String, u64)]) {
        if self.updates != loads {
            loads.clone_into(&mut self.updates);
            self.spread_drift();
        }
    }

    fn spread_drift(&mut self) {
        let (wrong, updates) = (&self.drift.instances, &self.updates);
        if wrong.is_empty() && updates.is_empty() {
            self.corrections = Vec::new();
            self.correction_total = 0;
            return;
        }
        let wrongs = Names::of(wrong.iter().map(|wrong| wrong.id.as_str()));
        let loads = Names::of(updates.iter().map(|(id, _)| id.as_str()));
        let of = |id: &str| {
            let wrong = wrongs.last(id).and_then(|at| wrong.get(at));
            let load = loads.last(id).and_then(|at| updates.get(at));
            let load = load.map_or(0, |(_, load)| i64::try_from(*load).unwrap_or(i64::MAX));
            wrong.map_or(0, |wrong| wrong.more).saturating_add(load)
        };
        self.corrections = self.table.hosts().iter().map(|host| of(&host.id)).collect();
        let all = self.corrections.iter();
        self.correction_total = all.fold(0, |sum, more| sum.saturating_add(*more));
    }

    /// The correction of an instance's gauge: its error, and the load of its updates.
    pub fn correction_of(&self, host: usize) -> i64 {
        self.corrections.get(host).copied().unwrap_or(0)
    }

    /// The error of an instance's gauge: requests to add to it. By id, also for instances that are not on a ring.
    pub fn drift_of(&self, id: &str) -> i64 {
        let mut wrong = self.drift.instances.iter();
        wrong
            .find(|wrong| wrong.id == id)
            .map_or(0, |wrong| wrong.more)
    }

    /// The load of an instance's updates.
    pub fn update_load_of(&self, id: &str) -> u64 {
        let found = self.updates.iter().find(|(of, _)| of == id);
        found.map_or(0, |(_, load)| *load)
    }

    /// Adopts a snapshot; ignored with `scope: process`.
    pub fn set_fleet(&mut self, fleet: Fleet) {
        if self.load.scope == Scope::Fleet {
            self.fleet = Some(fleet);
            self.spread_fleet();
        }
    }

    /// Whether there is a snapshot that is too old.
    pub fn has_stale_fleet(&self, now_ms: u64) -> bool {
        let limit_ms = u64::try_from(self.load.stale_after.as_millis()).unwrap_or(u64::MAX);
        let stale = |fleet: &Fleet| now_ms.saturating_sub(fleet.received_ms) > limit_ms;
        self.fleet.as_ref().is_some_and(stale)
    }

    /// Drops the snapshot if it is stale. Returns whether it was.
    pub fn drop_stale_fleet(&mut self, now_ms: u64) -> bool {
        if !self.has_stale_fleet(now_ms) {
            return false;
        }
        self.fleet = None;
        self.spread_fleet();
        true
    }

    fn spread_fleet(&mut self) {
        let snapshot = self.fleet.as_ref().map(|fleet| &fleet.rest);
        let rest = snapshot.map_or(&[][..], |snapshot| &snapshot.rest);
        let names = Names::of(rest.iter().map(|rest| rest.id.as_str()));
        let rank = snapshot.and_then(|snapshot| snapshot.rank);
        let nobody = Share {
            rank: rank.unwrap_or(0).into(),
            others: snapshot.map_or(0, |snapshot| snapshot.reporters).into(),
            ..Share::default()
        };
        let of = |id: &str| match names.last(id).and_then(|at| rest.get(at)) {
            Some(rest) => Share {
                own: rest.own.min(SHOWN_MAX),
                rest: rest.in_flight.min(SHOWN_MAX),
                before: rest.before.min(SHOWN_MAX),
                ..nobody
            },
            None => nobody,
        };
        self.divides = rank.is_some() && nobody.others > 0;
        self.shares = self.table.hosts().iter().map(|host| of(&host.id)).collect();
        let rests = self.shares.iter().map(|share| share.rest);
        self.rest_total = rests.fold(0, u64::saturating_add);
    }

    /// Requests in flight on an instance from the rest of the fleet.
    pub fn rest_of(&self, host: usize) -> u64 {
        self.shares.get(host).map_or(0, |share| share.rest)
    }

    /// Data updates per 1,000 seconds of each host of the table, over the fleet, as the snapshot says.
    pub fn update_rates(&self) -> impl Iterator<Item = (&str, u64)> {
        let rest = self
            .fleet
            .as_ref()
            .map_or(&[][..], |fleet| &fleet.rest.rest);
        let names = Names::of(rest.iter().map(|rest| rest.id.as_str()));
        let hosts = self.table.hosts().iter();
        hosts.map(move |host| {
            let told = names.last(&host.id).and_then(|at| rest.get(at));
            (
                host.id.as_str(),
                told.map_or(0, |told| told.updates_per_1000_s),
            )
        })
    }

    /// Chooses for one request, and counts it on the first candidate unless all instances are full.
    /// `gauges` are those of this process.
    ///
    /// # Errors
    /// [`Fallback`] if the filter cannot choose.
    pub fn decide(&self, hash: Option<u64>, gauges: &impl Loads) -> Result<Choice, Fallback> {
        self.decide_among(hash, self.wanted, gauges)
    }

    /// Like [`Balancer::decide`], with this many candidates if there are as many.
    ///
    /// # Errors
    /// [`Fallback`] if no candidate can be chosen.
    #[inline]
    pub fn decide_among(
        &self,
        hash: Option<u64>,
        wanted: usize,
        gauges: &impl Loads,
    ) -> Result<Choice, Fallback> {
        let hash = hash.ok_or(Fallback::NoKey)?;
        if let Some(left) = self.directory.placing().left {
            return Err(Fallback::Left(left));
        }
        let loads = FleetLoads {
            balancer: self,
            gauges,
        };
        let choice = self.table.choose(hash, wanted, &self.load.bound, &loads);
        choice.map_err(|left| match left {
            Left::NoRing => Fallback::NoRing,
            Left::Unnameable => Fallback::Unnameable,
            Left::Ambiguous => Fallback::Ambiguous,
        })
    }

    /// Writes the candidates as the `override_host` policy reads them: `ip:port,ip:port`.
    ///
    /// Under a hard cap the list has as many as are wanted, and repeats the first where there are
    /// fewer: at the end of the list Envoy asks its own policy, which knows no cap.
    pub fn write_candidates(&self, choice: &Choice, out: &mut String) {
        out.clear();
        let listed = choice.candidates.as_slice();
        let missing = match self.load.bound.max_in_flight {
            Some(_) => self.wanted.saturating_sub(listed.len()),
            None => 0,
        };
        let again = std::iter::repeat_n(choice.candidates.first(), missing);
        for host in listed.iter().copied().chain(again) {
            if let Some(member) = self.table.host(host) {
                if !out.is_empty() {
                    out.push(',');
                }
                out.push_str(&member.address);
            }
        }
    }
}

/// Loads of the whole fleet: this process's gauges and the rest of the fleet.
struct FleetLoads<'a, G> {
    balancer: &'a Balancer,
    gauges: &'a G,
}

impl<G: Loads> FleetLoads<'_, G> {
    #[inline]
    fn with_the_rest(&self, host: usize, here: u64) -> u64 {
        let here = here.saturating_add_signed(self.balancer.correction_of(host));
        here.saturating_add(self.balancer.rest_of(host))
    }
}

impl<G: Loads> Loads for FleetLoads<'_, G> {
    fn take(&self, host: usize) {
        self.gauges.take(host);
    }

    fn give_back(&self, host: usize) {
        self.gauges.give_back(host);
    }

    fn in_flight(&self, host: usize) -> u64 {
        let known = self.gauges.in_flight(host);
        self.with_the_rest(host, known)
    }

    fn estimate(&self, host: usize) -> u64 {
        let known = self.gauges.estimate(host);
        self.with_the_rest(host, known)
    }

    fn total(&self) -> u64 {
        let balancer = self.balancer;
        let here = self.gauges.total();
        let here = here.saturating_add_signed(balancer.correction_total);
        here.saturating_add(balancer.rest_total)
    }

    fn share(&self, host: usize) -> Option<Share> {
        let shares = self.balancer.divides.then_some(&self.balancer.shares)?;
        shares.get(host).copied()
    }

    fn of_updates(&self, host: usize) -> u64 {
        match self.balancer.updates.is_empty() {
            true => 0,
            false => {
                let id = self.balancer.table.hosts().get(host);
                id.map_or(0, |host| self.balancer.update_load_of(&host.id))
            }
        }
    }

    fn of_others(&self, host: usize) -> u64 {
        self.balancer.rest_of(host)
    }

    fn processes(&self) -> u64 {
        let fleet = self.balancer.fleet.as_ref();
        fleet.map_or(1, |fleet| u64::from(fleet.rest.reporters).saturating_add(1))
    }
}

#[cfg(test)]
mod tests;
