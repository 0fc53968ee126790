//! The choice for one request by one table. A trait stands for what Envoy knows of the hosts.

use std::cell::Cell;
use std::num::NonZeroU64;

use unitring_balancer::balancer::Fallback;
use unitring_routing::bounded::{CANDIDATES_MAX, Choice, Loads, Reason};
use unitring_routing::ring::HostIndex;

use crate::attempts::Tried;
use crate::loads::{Seen, Total};
use crate::placed::Part;
use crate::seats::Seat;

/// Envoy's data about a host that a pick needs, by its priority and its place among all of that priority.
pub trait Sight {
    /// Envoy's counts of the host now.
    fn seen(&self, priority: u32, at: usize) -> Seen;
    /// Whether the route's `retry_host_predicate` refuses the host for this request.
    fn refuses(&self, priority: u32, at: usize) -> bool;
}

/// The outcome of a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picked {
    /// A host of the table.
    Host {
        /// Where it is.
        seat: Seat,
        /// Its place among the healthy ones.
        healthy: u32,
        /// Why this host or, if this is another one, the first candidate was chosen.
        reason: Reason,
    },
    /// All hosts have as many requests as they may have.
    Full,
    /// The owner of the key cannot be named.
    Unnameable,
    /// No host of the table will do.
    Nobody,
}

/// One request, to be placed by one table or another.
#[derive(Debug)]
pub struct Picker<'a, S> {
    /// Envoy's view of the hosts.
    pub sight: S,
    /// The requests in flight on all hosts.
    pub total: &'a Total,
    /// `load.max_in_flight`.
    pub cap: Option<NonZeroU64>,
    /// The hash of its key.
    pub hash: u64,
    /// The hosts that refused it before.
    pub tried: Tried,
    /// Now, by a clock that never goes back.
    pub now_ms: u64,
    /// Whether the route's `retry_host_predicate` has refused a host; at first it has not.
    pub refused: Cell<bool>,
}

impl<S: Sight> Picker<'_, S> {
    /// Whether this is not the first attempt, as far as that is known.
    pub fn is_retry(&self) -> bool {
        self.refused.get() || self.tried.count() > 0
    }

    /// Picks by this table, whose hosts have these seats.
    pub fn pick(&self, part: &Part, seats: &[Seat]) -> Picked {
        let here = Here {
            picker: self,
            part,
            seats,
            taken: Cell::new(None),
        };
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
    fn pick_among(&self, wanted: usize, part: &Part, here: &Here<'_, S>) -> Picked {
        let choice = match part.balancer.decide_among(Some(self.hash), wanted, here) {
            Ok(choice) => choice,
            Err(Fallback::Unnameable) => return Picked::Unnameable,
            // Several hosts have the owner's name, and Envoy's order of equal points is not defined.
            Err(Fallback::Ambiguous) => return self.owner(part, here),
            Err(_) => return Picked::Nobody,
        };
        if choice.reason == Reason::Full {
            return Picked::Full;
        }
        let first = choice.candidates.first();
        match self.candidate(&choice, here) {
            Some((host, seat, healthy)) => {
                if host != first {
                    here.give_back(first.get());
                    here.take(host.get());
                }
                Picked::Host {
                    seat,
                    healthy,
                    reason: choice.reason,
                }
            }
            None => {
                here.give_back(first.get());
                Picked::Nobody
            }
        }
    }

    /// The first candidate to which this request was not sent before.
    #[inline]
    fn candidate(&self, choice: &Choice, here: &Here<'_, S>) -> Option<(HostIndex, Seat, u32)> {
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
        if self.sight.refuses(seat.priority, at) {
            self.refused.set(true);
            return true;
        }
        self.tried.has((seat.priority, at))
    }

    /// The owner of the key, whatever its load.
    #[cold]
    fn owner(&self, part: &Part, here: &Here<'_, S>) -> Picked {
        let owner = part.balancer.table().owner(self.hash);
        let place = owner.and_then(|owner| Some((owner, here.place(owner)?)));
        place.map_or(Picked::Nobody, |(owner, (seat, healthy))| {
            here.take(owner.get());
            Picked::Host {
                seat,
                healthy,
                reason: Reason::Primary,
            }
        })
    }
}

/// The loads of the hosts of a table in this process.
struct Here<'a, S> {
    picker: &'a Picker<'a, S>,
    part: &'a Part,
    seats: &'a [Seat],
    /// The host on which this request is counted now.
    taken: Cell<Option<usize>>,
}

impl<S: Sight> Here<'_, S> {
    /// Whether one more request is within `load.max_in_flight`.
    fn is_under_cap(&self, host: HostIndex) -> bool {
        let cap = self.picker.cap;
        cap.is_none_or(|cap| self.in_flight(host.get()) < cap.get())
    }

    #[inline]
    fn place(&self, host: HostIndex) -> Option<(Seat, u32)> {
        let seat = self.seats.get(host.get())?;
        Some((*seat, seat.among_healthy()?))
    }
}

impl<S: Sight> Loads for Here<'_, S> {
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
        let seen = self.picker.sight.seen(seat.priority, at);
        picks.in_flight(&seen, self.picker.now_ms / 1_000, own)
    }

    fn estimate(&self, host: usize) -> u64 {
        self.in_flight(host)
    }

    fn total(&self) -> u64 {
        let count = self.seats.len();
        let Picker { total, now_ms, .. } = self.picker;
        total.get(count, *now_ms, || {
            let all = (0..count).map(|host| self.in_flight(host));
            let all = all.fold(0, u64::saturating_add);
            all.saturating_sub(u64::from(self.taken.get().is_some()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::placed::{AllPicks, Placed};
    use crate::seats::Places;
    use unitring_balancer::directory::Directory;
    use unitring_balancer::placement::Placing;
    use unitring_balancer::settings::Settings;
    use unitring_routing::membership::Member;

    const HOSTS: usize = 5;
    const CAP: u64 = 20;

    /// A worker with hosts of one priority, and Envoy's data about each.
    struct World {
        part: Part,
        total: Total,
        addresses: Vec<String>,
        active: Vec<u64>,
        /// The hosts that a route's predicate refuses.
        refused: HashSet<usize>,
    }

    impl World {
        fn new(extra: &str) -> Self {
            let settings = format!(
                r#"{{"service":"orders","load":{{"balance_factor":125,"min_capacity":4{extra}}}}}"#
            );
            let settings = Settings::of_policy(settings.as_bytes()).unwrap();
            let addresses: Vec<_> = (1..=HOSTS).map(|n| format!("10.0.0.{n}:80")).collect();
            let members: Vec<_> = addresses.iter().map(|at| Member::new(at, at)).collect();
            let directory = Directory::first(&members, Placing::unasked(&settings));
            let placed = Placed::nobody(&settings);
            let placed = placed.update(&settings, directory, &mut AllPicks::default());
            Self {
                part: placed.unwrap().usual,
                total: Total::default(),
                addresses,
                active: vec![0; HOSTS],
                refused: HashSet::new(),
            }
        }

        /// Adds this many requests to a host, each with a connection.
        fn load(&mut self, at: usize, more: u64) {
            (0..more).for_each(|_| self.part.picks[at].add());
            self.active[at] += more;
        }

        /// Picks for a key, after these hosts: the outcome, and whether it counted as a retry.
        fn pick(&self, hash: u64, tried: Tried) -> (Picked, bool) {
            let picker = Picker {
                sight: self,
                total: &self.total,
                cap: NonZeroU64::new(CAP),
                hash,
                tried,
                now_ms: 1_000,
                refused: Cell::new(false),
            };
            let picked = picker.pick(&self.part, &self.part.seats(self));
            (picked, picker.is_retry())
        }

        fn host(&self, hash: u64, tried: Tried) -> (usize, Reason) {
            match self.pick(hash, tried).0 {
                Picked::Host { seat, reason, .. } => (seat.among_all().unwrap(), reason),
                other => unreachable!("{other:?}"),
            }
        }

        /// Requests that wait for a connection, on all hosts.
        fn waiting(&self) -> u64 {
            let picks = self.part.picks.iter();
            picks
                .map(|picks| picks.in_flight(&Seen::default(), 1, 0))
                .sum()
        }
    }

    impl Sight for &World {
        fn seen(&self, _: u32, at: usize) -> Seen {
            let active = self.active[at];
            Seen {
                total: active,
                active,
                refused: 0,
            }
        }
        fn refuses(&self, _: u32, at: usize) -> bool {
            self.refused.contains(&at)
        }
    }

    impl Places for World {
        fn count(&self, _: u32) -> usize {
            self.addresses.len()
        }
        fn healthy_count(&self, _: u32) -> usize {
            self.addresses.len()
        }
        fn address(&self, _: u32, at: usize) -> &[u8] {
            self.addresses[at].as_bytes()
        }
        fn healthy_address(&self, priority: u32, at: usize) -> &[u8] {
            self.address(priority, at)
        }
        fn is_healthy(&self, _: u32, _: usize) -> bool {
            true
        }
    }

    #[test]
    fn each_try_is_at_another_host_and_counts_once() {
        let mut world = World::new("");
        let mut seen = HashSet::new();
        for _ in 0..CANDIDATES_MAX.min(HOSTS) {
            let (at, _) = world.host(7, Tried::default());
            assert!(seen.insert(at), "{at} twice");
            world.refused.insert(at);
        }
        assert_eq!(world.waiting(), u64::try_from(seen.len()).unwrap());
        let (first, is_retry) = World::new("").pick(7, Tried::default());
        assert!(!is_retry, "{first:?}");
        assert!(world.pick(7, Tried::default()).1);
    }

    #[test]
    fn a_request_that_no_host_will_do_for_counts_nowhere() {
        let mut world = World::new("");
        world.refused.extend(0..HOSTS);
        let (picked, _) = world.pick(7, Tried::default());
        assert_eq!(picked, Picked::Nobody);
        assert_eq!(world.waiting(), 0);
    }

    #[test]
    fn a_full_owner_passes_the_key_on_and_full_hosts_refuse_it() {
        let mut world = World::new(r#","max_in_flight":20"#);
        let (owner, reason) = world.host(7, Tried::default());
        assert_eq!(reason, Reason::Primary);
        world.load(owner, 10);
        let (next, reason) = world.host(7, Tried::default());
        assert_ne!(next, owner);
        assert_eq!(reason, Reason::Overflow);
        (0..HOSTS).for_each(|at| world.load(at, CAP));
        assert_eq!(world.pick(7, Tried::default()).0, Picked::Full);
    }

    #[test]
    fn a_retry_does_not_exceed_the_cap_of_the_next_host() {
        let mut world = World::new(r#","max_in_flight":20"#);
        let (owner, _) = world.host(7, Tried::default());
        let others = (0..HOSTS).filter(|at| *at != owner);
        others.for_each(|at| world.load(at, CAP));
        world.refused.insert(owner);
        let (picked, is_retry) = world.pick(7, Tried::default());
        assert_eq!(picked, Picked::Nobody);
        assert!(is_retry);
    }
}
