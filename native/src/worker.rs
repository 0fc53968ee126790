//! A request → its host, on one thread.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use unitring_routing::bounded::Reason;
use unitring_routing::hash::mix;
use unitring_routing::membership::State;

use crate::attempts::Attempts;
use crate::binding::{Hosts, Request, Stat};
use crate::clock::running_ms;
use crate::loads::Seen;
use crate::pick::{Picked, Picker, Sight};
use crate::placed::Placed;
use crate::policy::Policy;
use crate::seats::{Places, Seat};

/// One thread's view of a cluster.
#[derive(Debug)]
pub(crate) struct Worker {
    policy: Arc<Policy>,
    placed: Arc<Placed>,
    /// The publication that `placed` is.
    version: u64,
    usual: Vec<Seat>,
    rescue: Vec<Seat>,
    attempts: Attempts,
    /// How many requests had no key.
    keyless: u64,
}

/// The answer to Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) priority: u32,
    /// Its place among the healthy hosts of the priority.
    pub(crate) healthy: u32,
}

impl Worker {
    pub(crate) fn new(policy: Arc<Policy>, hosts: &Hosts<'_>) -> Self {
        policy.on_new(hosts);
        let (version, placed) = (policy.version(), policy.placed());
        let mut worker = Self {
            policy,
            placed,
            version,
            usual: Vec::new(),
            rescue: Vec::new(),
            attempts: Attempts::default(),
            keyless: 0,
        };
        worker.sit(hosts);
        worker
    }

    /// The hosts of this thread have changed.
    pub(crate) fn on_hosts(&mut self, hosts: &Hosts<'_>) {
        self.policy.on_hosts(hosts);
        self.version = self.policy.version();
        self.placed = self.policy.placed();
        self.sit(hosts);
    }

    /// Adopts what the main thread has published.
    #[inline]
    fn follow(&mut self, hosts: &Hosts<'_>) {
        let version = self.policy.version();
        if self.version != version {
            self.adopt(version, hosts);
        }
    }

    #[cold]
    fn adopt(&mut self, version: u64, hosts: &Hosts<'_>) {
        let before = std::mem::replace(&mut self.placed, self.policy.placed());
        self.version = version;
        // Most publications have a new picture of the fleet, and the same hosts.
        if !Arc::ptr_eq(
            before.usual.balancer.table(),
            self.placed.usual.balancer.table(),
        ) {
            self.sit(hosts);
        }
    }

    fn sit(&mut self, hosts: &Hosts<'_>) {
        self.usual = self.placed.usual.seats(hosts);
        let rescue = self.placed.rescue.as_ref();
        self.rescue = rescue.map_or_else(Vec::new, |part| part.seats(hosts));
        self.attempts.forget();
    }

    /// Chooses the host of a request; `None` if there is none, or none that may take it.
    pub(crate) fn choose(&mut self, hosts: &Hosts<'_>, request: &Request<'_>) -> Option<Place> {
        self.follow(hosts);
        #[cfg(feature = "trap")]
        if request.header("x-trap").is_some() {
            unreachable!("a test asks for a fault");
        }
        let key = request.hash();
        let hash = key.unwrap_or_else(|| self.any_hash());
        let (place, is_by_hash) = self.place(hosts, request, hash);
        if key.is_none() || !is_by_hash {
            self.policy.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// Places a hash, and returns whether its owner, or the owner's load, decided the place.
    #[inline]
    fn place(
        &mut self,
        hosts: &Hosts<'_>,
        request: &Request<'_>,
        hash: u64,
    ) -> (Option<Place>, bool) {
        if self.policy.has_subsets() {
            return (any_healthy(hosts, hash, |_| true), false);
        }
        let failures = |(priority, at)| hosts.stat(priority, at, Stat::ConnectFailures);
        let tried = self
            .attempts
            .tried_and_failed(request.name(), hash, failures);
        let picker = Picker {
            sight: (hosts, request),
            total: &self.policy.total,
            cap: self.policy.settings.load.bound.max_in_flight,
            hash,
            tried,
            now_ms: running_ms(),
            refused: Cell::new(false),
        };
        let stats = &self.policy.stats;
        let mut is_by_hash = true;
        let picked = match picker.pick(&self.placed.usual, &self.usual) {
            Picked::Unnameable => {
                stats.add(stats.unnameable, 1);
                is_by_hash = false;
                let rescue = self.placed.rescue.as_ref();
                rescue.map_or(Picked::Nobody, |rescue| picker.pick(rescue, &self.rescue))
            }
            picked => picked,
        };
        let (seat, healthy, reason) = match picked {
            Picked::Host {
                seat,
                healthy,
                reason,
            } => (seat, healthy, reason),
            Picked::Full => {
                stats.add(stats.full, 1);
                return (None, is_by_hash);
            }
            Picked::Unnameable | Picked::Nobody => {
                return (self.spare(hosts, request, hash), false);
            }
        };
        match reason {
            Reason::Overflow => stats.add(stats.overflow, 1),
            Reason::LeastLoaded => stats.add(stats.least_loaded, 1),
            Reason::Primary | Reason::Ejected | Reason::Full => {}
        }
        if picker.is_retry() {
            stats.add(stats.retries, 1);
        }
        self.policy.total.add();
        let priority = seat.priority;
        if let Some(at) = seat.among_all() {
            let host = (priority, at);
            self.attempts
                .note(request.name(), hash, tried, host, failures(host));
        }
        (Some(Place { priority, healthy }), is_by_hash)
    }

    /// Chooses a host after a fault of this module, by as little code as possible.
    pub(crate) fn choose_after_fault(
        &mut self,
        hosts: &Hosts<'_>,
        request: &Request<'_>,
    ) -> Option<Place> {
        self.policy.stats.add(self.policy.stats.faults, 1);
        any_healthy(hosts, request.hash().unwrap_or(0), |_| true)
    }

    /// A healthy host for a request that the rings have none for: while hosts change, a worker may have other hosts
    /// than the main thread.
    #[cold]
    fn spare(&self, hosts: &Hosts<'_>, request: &Request<'_>, hash: u64) -> Option<Place> {
        let refuses = |place: Place| {
            let address = Places::healthy_address(hosts, place.priority, at(place.healthy));
            let count = Places::count(hosts, place.priority);
            let mut all = 0..count;
            let found = all.find(|at| Places::address(hosts, place.priority, *at) == address);
            found.is_some_and(|at| request.refuses(hosts, place.priority, at))
        };
        let place = any_healthy(hosts, hash, |place| !refuses(place));
        let place = place.or_else(|| any_healthy(hosts, hash, |_| true));
        if place.is_none() {
            self.policy.stats.add(self.policy.stats.no_ring, 1);
        }
        place
    }

    /// A hash for a request without a key.
    fn any_hash(&mut self) -> u64 {
        self.policy.stats.add(self.policy.stats.no_key, 1);
        self.keyless = self.keyless.wrapping_add(1);
        // The address of this worker's state, so that workers do not go through the hosts in step.
        mix(self.keyless ^ std::ptr::from_ref(self).addr() as u64)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.policy.on_end();
    }
}

/// A healthy host that depends on the hash, of the first priority with an eligible one.
fn any_healthy(hosts: &Hosts<'_>, hash: u64, will_do: impl Fn(Place) -> bool) -> Option<Place> {
    (0..hosts.priorities()).find_map(|priority| {
        let count = u64::try_from(hosts.healthy_count(priority)).ok()?;
        let first = hash.checked_rem(count)?;
        let mut places = (0..count).map(|step| Place {
            priority,
            healthy: u32::try_from((first + step) % count).unwrap_or(0),
        });
        places.find(|place| will_do(*place))
    })
}

fn at(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

impl Sight for (&Hosts<'_>, &Request<'_>) {
    #[inline]
    fn seen(&self, priority: u32, at: usize) -> Seen {
        seen(self.0, priority, at)
    }
    #[inline]
    fn refuses(&self, priority: u32, at: usize) -> bool {
        self.1.refuses(self.0, priority, at)
    }
}

/// Envoy's counts of a host now, by its place among all.
#[inline]
pub(crate) fn seen(hosts: &Hosts<'_>, priority: u32, at: usize) -> Seen {
    let stat = |which| hosts.stat(priority, at, which);
    let (total, refused) = (stat(Stat::Total), stat(Stat::ConnectFailures));
    Seen {
        total,
        refused,
        active: stat(Stat::Active),
    }
}

impl Places for Hosts<'_> {
    fn count(&self, priority: u32) -> usize {
        Hosts::count(self, priority)
    }
    fn healthy_count(&self, priority: u32) -> usize {
        Hosts::healthy_count(self, priority)
    }
    fn address(&self, priority: u32, at: usize) -> &[u8] {
        Hosts::address(self, priority, at)
    }
    fn healthy_address(&self, priority: u32, at: usize) -> &[u8] {
        Hosts::healthy_address(self, priority, at)
    }
    fn is_healthy(&self, priority: u32, at: usize) -> bool {
        self.state(priority, at) == State::Serving
    }
}
