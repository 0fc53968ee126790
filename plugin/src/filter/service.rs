//! What the streams of a VM share: settings, the balancer, the stats.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use unitring_routing::bounded::Choice;
use unitring_routing::ring::RingError;
use unitring_routing::table::Table;

use super::stats::{InstanceStats, ServiceStats};
use crate::balancer::{Balancer, Fallback, Fleet, Gauges};
use crate::directory::{Directory, Entry, Shown};
use crate::settings::Settings;

/// One service as this VM routes it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) settings: Settings,
    pub(super) stats: ServiceStats,
    /// Whether this VM has ever been given a request.
    pub(super) serves: Cell<bool>,
    routing: RefCell<Routing>,
}

#[derive(Debug)]
struct Routing {
    balancer: Balancer,
    /// The stats of each host of the balancer's table.
    hosts: Vec<Rc<InstanceStats>>,
    /// Every stat this VM ever defined. Never shrinks, since Envoy's stats never do; the directory
    /// bounds the names.
    defined: BTreeMap<String, Rc<InstanceStats>>,
}

/// Where a request goes.
pub(super) struct Placement {
    pub(super) stats: Rc<InstanceStats>,
    pub(super) choice: Choice,
    /// The value of the header for Envoy.
    pub(super) header: String,
    /// The ring's version.
    pub(super) ring: Option<String>,
}

impl Service {
    pub(super) fn new(settings: Settings) -> Self {
        let balancer = Balancer::new(&settings);
        Self {
            stats: ServiceStats::define(settings.service.as_str()),
            settings,
            serves: Cell::new(false),
            routing: RefCell::new(Routing {
                balancer,
                hosts: Vec::new(),
                defined: BTreeMap::new(),
            }),
        }
    }

    /// Places a request.
    pub(super) fn place(&self, hash: Option<u64>) -> Result<Placement, Fallback> {
        let routing = self.routing.borrow();
        let gauges = HostGauges {
            hosts: &routing.hosts,
            stats: &self.stats,
        };
        let choice = routing.balancer.decide(hash, &gauges)?;
        let stats = routing
            .hosts
            .get(choice.candidates.first().get())
            .ok_or(Fallback::NoRing)?;
        let mut header = String::new();
        routing.balancer.write_candidates(&choice, &mut header);
        let ring = self
            .settings
            .explain
            .then(|| routing.balancer.table().version());
        Ok(Placement {
            stats: Rc::clone(stats),
            choice,
            header,
            ring,
        })
    }

    /// Routes by another directory. Returns the tables before and after.
    pub(super) fn install(
        &self,
        directory: Directory,
    ) -> Result<(Rc<Table>, Rc<Table>), RingError> {
        let mut routing = self.routing.borrow_mut();
        let Routing {
            balancer,
            hosts,
            defined,
        } = &mut *routing;
        let old = balancer.install(directory)?;
        for entry in balancer.directory().entries() {
            stats_of(defined, self.settings.service.as_str(), &entry.stat);
        }
        let by_address: BTreeMap<&str, &Entry> = balancer
            .directory()
            .entries()
            .iter()
            .map(|e| (e.address.as_str(), e))
            .collect();
        *hosts = balancer
            .table()
            .hosts()
            .iter()
            .filter_map(|host| by_address.get(host.address.as_str()))
            .filter_map(|entry| defined.get(&entry.stat).cloned())
            .collect();
        Ok((old, Rc::clone(balancer.table())))
    }

    pub(super) fn directory(&self) -> Rc<Directory> {
        Rc::clone(self.routing.borrow().balancer.directory())
    }

    pub(super) fn table(&self) -> Rc<Table> {
        Rc::clone(self.routing.borrow().balancer.table())
    }

    pub(super) fn set_fleet(&self, fleet: Fleet) {
        self.routing.borrow_mut().balancer.set_fleet(fleet);
    }

    /// Adds what this VM has counted, and forgets a stale fleet.
    pub(super) fn tick(&self, now_ms: u64) {
        if self.routing.borrow_mut().balancer.drop_stale_fleet(now_ms) {
            self.stats.fleet_stale.add(1);
        }
        self.stats.flush();
        for stats in self.routing.borrow().defined.values() {
            stats.flush();
        }
    }

    /// What a stat shows, for the whole process.
    pub(super) fn shown(&self, stat: &str) -> Shown {
        let mut routing = self.routing.borrow_mut();
        stats_of(&mut routing.defined, self.settings.service.as_str(), stat).shown()
    }

    /// In-flight of each instance as the bound sees it: this process plus the rest of the fleet.
    pub(super) fn fleet_loads(&self) -> Vec<(String, u64)> {
        let routing = self.routing.borrow();
        let hosts = routing
            .balancer
            .table()
            .hosts()
            .iter()
            .zip(&routing.hosts)
            .enumerate();
        hosts
            .map(|(index, (host, stats))| {
                let rest = routing.balancer.rest_of(index);
                (host.id.clone(), stats.in_flight.show().saturating_add(rest))
            })
            .collect()
    }

    /// The id of the instance at an address.
    pub(super) fn instance_at(&self, address: &str) -> Option<String> {
        let routing = self.routing.borrow();
        let mut entries = routing.balancer.directory().entries().iter();
        entries
            .find(|entry| entry.address == address)
            .map(|entry| entry.id.clone())
    }
}

fn stats_of<'a>(
    defined: &'a mut BTreeMap<String, Rc<InstanceStats>>,
    service: &str,
    stat: &str,
) -> &'a Rc<InstanceStats> {
    defined
        .entry(stat.to_owned())
        .or_insert_with(|| Rc::new(InstanceStats::define(service, stat)))
}

struct HostGauges<'a> {
    hosts: &'a [Rc<InstanceStats>],
    stats: &'a ServiceStats,
}

impl Gauges for HostGauges<'_> {
    fn in_flight(&self, host: usize) -> u64 {
        self.hosts
            .get(host)
            .map_or(0, |stats| stats.in_flight.show())
    }

    fn total(&self) -> u64 {
        self.stats.in_flight.show()
    }
}
