//! A request → its host, on one thread.

use std::cell::Cell;
use std::sync::Arc;

use unitring_balancer::balancer::Fallback;
use unitring_routing::bounded::{CANDIDATES_MAX, Choice, Loads, Reason};
use unitring_routing::hash::mix;
use unitring_routing::membership::State;
use unitring_routing::ring::HostIndex;

use crate::attempts::Attempts;
use crate::binding::{Hosts, Request, Stat};
use crate::clock::running_ms;
use crate::placed::{Part, Placed};
use crate::policy::Policy;
use crate::seats::{self, Places, Seat};

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

/// What is answered to Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) priority: u32,
    /// Its place among the healthy hosts of the priority.
    pub(crate) healthy: u32,
}

/// Which attempt of a request this is.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    /// How many hosts were tried before, as far as that is known.
    before: usize,
    /// Whether the route may have a predicate that refuses hosts.
    may_refuse: bool,
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
        // Most publications bring another picture of the fleet, and the same hosts.
        if !Arc::ptr_eq(
            before.usual.balancer.table(),
            self.placed.usual.balancer.table(),
        ) {
            self.sit(hosts);
        }
    }

    fn sit(&mut self, hosts: &Hosts<'_>) {
        self.usual = seats_of(&self.placed.usual, hosts);
        let rescue = self.placed.rescue.as_ref();
        self.rescue = rescue.map_or_else(Vec::new, |part| seats_of(part, hosts));
        self.attempts.forget();
    }

    /// Chooses the host of a request; `None` if there is none, or none that may take it.
    pub(crate) fn choose(&mut self, hosts: &Hosts<'_>, request: &Request<'_>) -> Option<Place> {
        self.follow(hosts);
        #[cfg(feature = "trap")]
        if request.header("x-trap").is_some() {
            unreachable!("a test asks for a fault");
        }
        let hash = request.hash().unwrap_or_else(|| self.any_hash());
        let is_http = request.is_http();
        let attempt = self.attempt(hosts, request, hash, is_http);
        let picker = Picker {
            policy: &self.policy,
            hosts,
            request,
            hash,
            attempt,
        };
        if attempt.before > 0 {
            self.policy.stats.add(self.policy.stats.retries, 1);
        }
        let picked = match picker.pick(&self.placed.usual, &self.usual) {
            Picked::Unnameable => {
                self.policy.stats.add(self.policy.stats.unnameable, 1);
                let rescue = self.placed.rescue.as_ref();
                rescue.map_or(Picked::Nobody, |rescue| picker.pick(rescue, &self.rescue))
            }
            picked => picked,
        };
        let (seat, healthy) = match picked {
            Picked::Host(seat, healthy) => (seat, healthy),
            Picked::Full => return None,
            Picked::Unnameable | Picked::Nobody => {
                return self.spare(hosts, request, hash, attempt);
            }
        };
        self.policy.total.add();
        let priority = seat.priority;
        if let (false, Some(at)) = (is_http, seat.among_all()) {
            let failures = hosts.stat(priority, at, Stat::ConnectFailures);
            let party = request.name();
            self.attempts
                .note(party, hash, attempt.before, (priority, at), failures);
        }
        Some(Place { priority, healthy })
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

    /// A healthy host for a request that the rings have none for: while hosts change, a worker may not have those
    /// that the main thread has.
    #[cold]
    fn spare(
        &self,
        hosts: &Hosts<'_>,
        request: &Request<'_>,
        hash: u64,
        attempt: Attempt,
    ) -> Option<Place> {
        let refuses = |place: Place| {
            attempt.may_refuse && {
                let address = Places::healthy_address(hosts, place.priority, at(place.healthy));
                let count = Places::count(hosts, place.priority);
                let mut all = 0..count;
                let found = all.find(|at| Places::address(hosts, place.priority, *at) == address);
                found.is_some_and(|at| request.refuses(hosts, place.priority, at))
            }
        };
        let place = any_healthy(hosts, hash, |place| !refuses(place));
        let place = place.or_else(|| any_healthy(hosts, hash, |_| true));
        if place.is_none() {
            self.policy.stats.add(self.policy.stats.no_ring, 1);
        }
        place
    }

    fn attempt(
        &self,
        hosts: &Hosts<'_>,
        request: &Request<'_>,
        hash: u64,
        is_http: bool,
    ) -> Attempt {
        if is_http {
            // Envoy writes this header, also over a client's, if the virtual host includes it.
            let count = request.header("x-envoy-attempt-count");
            let count = count.and_then(|count| str::from_utf8(count).ok()?.parse().ok());
            return Attempt {
                before: count.map_or(0, |count: usize| count.saturating_sub(1)),
                may_refuse: true,
            };
        }
        let failures = |(priority, at)| hosts.stat(priority, at, Stat::ConnectFailures);
        Attempt {
            before: self.attempts.before(request.name(), hash, failures),
            may_refuse: false,
        }
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

fn seats_of(part: &Part, hosts: &Hosts<'_>) -> Vec<Seat> {
    let all = part.balancer.table().hosts().iter();
    let placed = all.map(|host| seats::Placed {
        priority: host.priority,
        address: &host.address,
        is_healthy: host.state == State::Serving,
    });
    seats::seats(placed, hosts)
}

/// A healthy host that depends on the hash, of the first priority that has one which will do.
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

/// What came of a pick.
enum Picked {
    /// A host of the table: where it is, and its place among the healthy ones.
    Host(Seat, u32),
    /// All hosts have as many requests as they may have.
    Full,
    /// The owner of the key cannot be named.
    Unnameable,
    /// No host of the table will do.
    Nobody,
}

/// One request, to be placed by one table or another.
struct Picker<'a> {
    policy: &'a Policy,
    hosts: &'a Hosts<'a>,
    request: &'a Request<'a>,
    hash: u64,
    attempt: Attempt,
}

impl Picker<'_> {
    fn pick(&self, part: &Part, seats: &[Seat]) -> Picked {
        let here = Here::new(self.policy, self.hosts, part, seats);
        // A first attempt needs the first candidate alone, unless that will not do.
        let first_only = self.attempt.before == 0;
        let wanted = if first_only { 1 } else { CANDIDATES_MAX };
        let picked = self.pick_among(wanted, part, &here);
        match picked {
            Picked::Nobody if first_only => self.pick_among(CANDIDATES_MAX, part, &here),
            picked => picked,
        }
    }

    #[inline]
    fn pick_among(&self, wanted: usize, part: &Part, here: &Here<'_>) -> Picked {
        let choice = match part.balancer.decide_among(Some(self.hash), wanted, here) {
            Ok(choice) => choice,
            Err(Fallback::Unnameable) => return Picked::Unnameable,
            // Several hosts have the owner's name, and Envoy's order of equal points is not defined.
            Err(Fallback::Ambiguous) => return self.owner(part, here),
            Err(_) => return Picked::Nobody,
        };
        let stats = &self.policy.stats;
        match choice.reason {
            Reason::Primary | Reason::Ejected => {}
            Reason::Overflow => stats.add(stats.overflow, 1),
            Reason::LeastLoaded => stats.add(stats.least_loaded, 1),
            Reason::Full => {
                stats.add(stats.full, 1);
                return Picked::Full;
            }
        }
        let first = choice.candidates.first();
        match self.candidate(&choice, here) {
            Some((host, seat, healthy)) => {
                if host != first {
                    here.give_back(first.get());
                    here.take(host.get());
                }
                Picked::Host(seat, healthy)
            }
            None => {
                here.give_back(first.get());
                Picked::Nobody
            }
        }
    }

    /// The candidate for this attempt: the first that the route's predicate does not refuse, and if it refuses none,
    /// another one for each attempt.
    #[inline]
    fn candidate(&self, choice: &Choice, here: &Here<'_>) -> Option<(HostIndex, Seat, u32)> {
        let candidates = choice.candidates.as_slice();
        let mut will_do = candidates.iter().filter_map(|host| {
            let (seat, healthy) = here.place(*host)?;
            Some((*host, seat, healthy)).filter(|_| !self.refuses(seat))
        });
        if self.attempt.before == 0 {
            return will_do.next();
        }
        let count = will_do.clone().count();
        let skipped = if count < candidates.len() {
            0
        } else {
            self.attempt.before
        };
        will_do.nth(skipped.checked_rem(count)?)
    }

    /// Whether the route's `retry_host_predicate` refuses a host.
    #[inline]
    fn refuses(&self, seat: Seat) -> bool {
        let place = seat.among_all().filter(|_| self.attempt.may_refuse);
        place.is_some_and(|at| self.request.refuses(self.hosts, seat.priority, at))
    }

    /// The owner of the key, whatever its load.
    #[cold]
    fn owner(&self, part: &Part, here: &Here<'_>) -> Picked {
        let owner = part.balancer.table().owner(self.hash);
        let place = owner.and_then(|owner| Some((owner, here.place(owner)?)));
        place.map_or(Picked::Nobody, |(owner, (seat, healthy))| {
            here.take(owner.get());
            Picked::Host(seat, healthy)
        })
    }
}

/// The loads of the hosts of a table in this process.
struct Here<'a> {
    policy: &'a Policy,
    hosts: &'a Hosts<'a>,
    part: &'a Part,
    seats: &'a [Seat],
    now_ms: u64,
    /// The host on which this request is counted now.
    taken: Cell<Option<usize>>,
}

impl<'a> Here<'a> {
    fn new(policy: &'a Policy, hosts: &'a Hosts<'a>, part: &'a Part, seats: &'a [Seat]) -> Self {
        Self {
            policy,
            hosts,
            part,
            seats,
            now_ms: running_ms(),
            taken: Cell::new(None),
        }
    }

    #[inline]
    fn place(&self, host: HostIndex) -> Option<(Seat, u32)> {
        let seat = self.seats.get(host.get())?;
        Some((*seat, seat.among_healthy()?))
    }
}

impl Loads for Here<'_> {
    #[inline]
    fn take(&self, host: usize) {
        if let Some(picks) = self.part.picks.get(host) {
            picks.add();
            self.taken.set(Some(host));
        }
    }

    #[inline]
    fn give_back(&self, host: usize) {
        if let Some(picks) = self.part.picks.get(host) {
            picks.take_back();
            self.taken.set(None);
        }
    }

    #[inline]
    fn in_flight(&self, host: usize) -> u64 {
        let (Some(seat), Some(picks)) = (self.seats.get(host), self.part.picks.get(host)) else {
            return 0;
        };
        let Some(at) = seat.among_all() else {
            return 0;
        };
        let active = self.hosts.stat(seat.priority, at, Stat::Active);
        let total = self.hosts.stat(seat.priority, at, Stat::Total);
        let own = u64::from(self.taken.get() == Some(host));
        active.saturating_add(picks.waiting(total, self.now_ms / 1_000, own))
    }

    fn estimate(&self, host: usize) -> u64 {
        self.in_flight(host)
    }

    fn total(&self) -> u64 {
        let count = self.seats.len();
        self.policy.total.get(count, self.now_ms, || {
            let all = (0..count).map(|host| self.in_flight(host));
            let all = all.fold(0, u64::saturating_add);
            all.saturating_sub(u64::from(self.taken.get().is_some()))
        })
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
