//! The choice for one request by one table.

use std::cell::Cell;

use unitring_balancer::balancer::Fallback;
use unitring_routing::bounded::{CANDIDATES_MAX, Choice, Loads, Reason};
use unitring_routing::ring::HostIndex;

use crate::attempts::Tried;
use crate::binding::{Hosts, Request, Stat};
use crate::clock::running_ms;
use crate::loads::Seen;
use crate::placed::Part;
use crate::policy::Policy;
use crate::seats::Seat;

/// What came of a pick.
pub(crate) enum Picked {
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
pub(crate) struct Picker<'a> {
    policy: &'a Policy,
    hosts: &'a Hosts<'a>,
    request: &'a Request<'a>,
    hash: u64,
    /// The hosts that refused it before.
    tried: Tried,
    /// Whether the route's `retry_host_predicate` has refused a host.
    refused: Cell<bool>,
}

impl<'a> Picker<'a> {
    pub(crate) fn new(
        policy: &'a Policy,
        hosts: &'a Hosts<'a>,
        request: &'a Request<'a>,
        hash: u64,
        tried: Tried,
    ) -> Self {
        Self {
            policy,
            hosts,
            request,
            hash,
            tried,
            refused: Cell::new(false),
        }
    }

    /// Whether this is not the first attempt, as far as that is known.
    pub(crate) fn is_retry(&self) -> bool {
        self.refused.get() || self.tried.count() > 0
    }

    /// Picks by this table, whose hosts have these seats.
    pub(crate) fn pick(&self, part: &Part, seats: &[Seat]) -> Picked {
        let here = Here::new(self.policy, self.hosts, part, seats);
        // A first attempt needs the first candidate alone, unless that will not do.
        let first_only = self.tried.count() == 0;
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

    /// The first candidate to which this request was not sent before.
    #[inline]
    fn candidate(&self, choice: &Choice, here: &Here<'_>) -> Option<(HostIndex, Seat, u32)> {
        let first = choice.candidates.first();
        let candidates = choice.candidates.as_slice().iter();
        let mut will_do = candidates.filter_map(|host| {
            let (seat, healthy) = here.place(*host)?;
            let does = !self.was_at(seat) && (*host == first || here.is_under_cap(*host));
            does.then_some((*host, seat, healthy))
        });
        will_do.next()
    }

    /// Whether this request was sent to a host before, by the route's predicate or by what this worker remembers.
    #[inline]
    fn was_at(&self, seat: Seat) -> bool {
        let Some(at) = seat.among_all() else {
            return false;
        };
        if self.request.refuses(self.hosts, seat.priority, at) {
            self.refused.set(true);
            return true;
        }
        self.tried.has((seat.priority, at))
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

    /// Whether one more request is within `load.max_in_flight`.
    fn is_under_cap(&self, host: HostIndex) -> bool {
        let cap = self.policy.settings.load.bound.max_in_flight;
        cap.is_none_or(|cap| self.in_flight(host.get()) < cap.get())
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
        let own = u64::from(self.taken.get() == Some(host));
        let seen = Seen::of(self.hosts, seat.priority, at);
        picks.in_flight(&seen, self.now_ms / 1_000, own)
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

impl Seen {
    /// What Envoy counts of a host now, by its place among all.
    #[inline]
    pub(crate) fn of(hosts: &Hosts<'_>, priority: u32, at: usize) -> Self {
        let stat = |which| hosts.stat(priority, at, which);
        let (total, refused) = (stat(Stat::Total), stat(Stat::ConnectFailures));
        Self {
            total,
            refused,
            active: stat(Stat::Active),
        }
    }
}
