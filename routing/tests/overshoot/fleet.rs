//! Several Envoys that place requests by the real table and bound. They know each other's loads by
//! reports in virtual time: built, stored by the companion, answered, and adopted at the next tick.

use std::cell::RefCell;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::num::NonZeroU32;

use unitring_routing::bounded::{Bound, Loads, Reason, Share};
use unitring_routing::hash::{HashFunction, xxh64};
use unitring_routing::membership::{Identity, Member};
use unitring_routing::ring::{HostIndex, POINTS_MAX, Shape};
use unitring_routing::table::{Rule, Table};

use crate::random::Random;

/// Which Envoys' requests count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Process,
    Fleet,
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) envoys: usize,
    pub(crate) instances: usize,
    /// Requests over all Envoys; each arrives at any of them.
    pub(crate) per_second: u64,
    /// Percentage of requests with one key; the others are spread over many keys.
    pub(crate) hot_percent: u64,
    pub(crate) service_ms: u64,
    pub(crate) interval_ms: u64,
    /// Time between two ticks; a report and a snapshot wait for the next one.
    pub(crate) tick_ms: u64,
    /// The longest time from building a report until it is stored, and from there until it is
    /// answered.
    pub(crate) latency_ms: u64,
    pub(crate) min_capacity: u64,
    pub(crate) scope: Scope,
    pub(crate) seconds: u64,
}

impl Settings {
    /// How old an Envoy's view of another may be, as derived in `docs/bound.md`.
    pub(crate) fn staleness_ms(&self) -> u64 {
        2 * (self.interval_ms + self.tick_ms) + self.tick_ms + 3 * self.latency_ms
    }
}

/// The admission that was farthest over the capacity, and some extremes of the run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// By how much it exceeded the capacity, and how much excess was allowed.
    pub(crate) over: u64,
    pub(crate) allowed: u64,
    /// The capacity at the true total of that time.
    pub(crate) capacity: u64,
    /// The most requests in flight on any instance at any time.
    pub(crate) peak: u64,
    pub(crate) admitted: u64,
    /// The age of the oldest view that any decision used.
    pub(crate) oldest_ms: u64,
    /// The greatest percentage of the allowed excess that was used, where ten or more were allowed.
    pub(crate) used_percent: u64,
}

impl Outcome {
    /// The one with the larger excess, with the higher peak and the older view of both.
    pub(crate) fn worse(self, other: Self) -> Self {
        let (peak, oldest_ms) = (
            self.peak.max(other.peak),
            self.oldest_ms.max(other.oldest_ms),
        );
        let admitted = self.admitted + other.admitted;
        let used_percent = self.used_percent.max(other.used_percent);
        let worse = if other.over > self.over { other } else { self };
        Self {
            peak,
            oldest_ms,
            admitted,
            used_percent,
            ..worse
        }
    }
}

const MS: u64 = 1_000;

/// An event, queued with its time in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Departure {
        request: u64,
    },
    /// An Envoy builds its report.
    Report {
        envoy: usize,
    },
    /// The companion stores the report, and answers with its reports of the others.
    Stored {
        envoy: usize,
        report: Report,
    },
    /// A worker adopts the answer.
    Adopted {
        envoy: usize,
        rest: Vec<Report>,
    },
}

/// An Envoy's requests in flight on each instance at the time when it built this report.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Report {
    built: u64,
    in_flight: Vec<u64>,
}

/// One Envoy.
struct Envoy {
    in_flight: RefCell<Vec<u64>>,
    /// In flight on the service, without the request that is being placed.
    total: u64,
    shares: Vec<Share>,
    /// When each other Envoy built the report that this one knows of it.
    built: Vec<u64>,
}

impl Loads for Envoy {
    fn take(&self, host: usize) {
        self.in_flight.borrow_mut()[host] += 1;
    }
    fn give_back(&self, host: usize) {
        self.in_flight.borrow_mut()[host] -= 1;
    }
    fn in_flight(&self, host: usize) -> u64 {
        self.in_flight.borrow()[host] + self.shares[host].rest
    }
    fn estimate(&self, host: usize) -> u64 {
        self.in_flight(host)
    }
    fn total(&self) -> u64 {
        self.total + self.shares.iter().map(|share| share.rest).sum::<u64>()
    }
    fn share(&self, host: usize) -> Option<Share> {
        let share = self.shares[host];
        (share.others > 0).then_some(share)
    }
}

/// The whole simulation.
struct Fleet {
    settings: Settings,
    table: Table,
    bound: Bound,
    envoys: Vec<Envoy>,
    /// The last report of each Envoy that the companion has stored.
    stored: Vec<Report>,
    random: Random,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events: u64,
    /// Requests in flight, by number: their start, Envoy and instance.
    in_flight: BTreeMap<u64, (u64, usize, usize)>,
    /// The in-flight total of an Envoy at every change within the staleness.
    totals: VecDeque<(u64, usize, u64)>,
    outcome: Outcome,
}

/// Runs a case, and checks the derived bound at every admission.
pub(crate) fn run(settings: Settings, seed: u64) -> Outcome {
    let mut fleet = Fleet::new(settings, seed);
    let end = settings.seconds * 1_000 * MS;
    while let Some(Reverse((at, _, event))) = fleet.queue.pop() {
        if at > end {
            break;
        }
        fleet.now = at;
        fleet.happen(event);
    }
    fleet.outcome
}

impl Fleet {
    fn new(settings: Settings, seed: u64) -> Self {
        let bound = Bound {
            balance_factor: NonZeroU32::new(125),
            min_capacity: settings.min_capacity,
            max_in_flight: None,
        };
        let nothing = vec![0; settings.instances];
        let envoy = || Envoy {
            in_flight: RefCell::new(nothing.clone()),
            total: 0,
            shares: vec![Share::default(); settings.instances],
            built: vec![0; settings.envoys],
        };
        let nobody = Report {
            built: 0,
            in_flight: nothing.clone(),
        };
        let mut fleet = Self {
            table: table(settings.instances),
            bound,
            envoys: (0..settings.envoys).map(|_| envoy()).collect(),
            stored: vec![nobody; settings.envoys],
            random: Random(seed),
            now: 0,
            queue: BinaryHeap::new(),
            events: 0,
            in_flight: BTreeMap::new(),
            totals: VecDeque::new(),
            outcome: Outcome::default(),
            settings,
        };
        fleet.after(0, Event::Arrival);
        if settings.scope == Scope::Fleet {
            for envoy in 0..settings.envoys {
                let first = fleet.random.below(settings.interval_ms * MS);
                fleet.after(first, Event::Report { envoy });
            }
        }
        fleet
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.events += 1;
        self.queue
            .push(Reverse((self.now + delay, self.events, event)));
    }

    fn happen(&mut self, event: Event) {
        let settings = self.settings;
        match event {
            Event::Arrival => {
                self.place();
                let gap = self.random.around(1_000 * MS / settings.per_second);
                self.after(gap, Event::Arrival);
            }
            Event::Departure { request } => {
                let (_, envoy, host) = self.in_flight.remove(&request).unwrap();
                self.totals
                    .push_back((self.now, envoy, self.envoys[envoy].total));
                self.envoys[envoy].give_back(host);
                self.envoys[envoy].total -= 1;
            }
            Event::Report { envoy } => {
                let report = Report {
                    built: self.now,
                    in_flight: self.envoys[envoy].in_flight.borrow().clone(),
                };
                let under_way = self.random.below(settings.latency_ms * MS);
                self.after(under_way, Event::Stored { envoy, report });
                // A report that is due waits for a tick.
                let wait = self.random.below(settings.tick_ms * MS);
                self.after(settings.interval_ms * MS + wait, Event::Report { envoy });
            }
            Event::Stored { envoy, report } => {
                self.stored[envoy] = report;
                let rest = self.stored.clone();
                let under_way = self.random.below(settings.latency_ms * MS);
                let wait = self.random.below(settings.tick_ms * MS);
                self.after(under_way + wait, Event::Adopted { envoy, rest });
            }
            Event::Adopted { envoy, rest } => self.envoys[envoy].adopt(envoy, &rest),
        }
    }

    fn place(&mut self) {
        let key = if self.random.below(100) < self.settings.hot_percent {
            0
        } else {
            self.random.below(2_000)
        };
        let e = usize::try_from(self.random.below(self.envoys.len() as u64)).unwrap();
        let hash = xxh64(&key.to_le_bytes());
        let choice = self.table.choose(hash, 1, &self.bound, &self.envoys[e]);
        let choice = choice.unwrap();
        // With a factor over 100 % some instance is always under its share, also in an old view.
        assert!(matches!(choice.reason, Reason::Primary | Reason::Overflow));
        let host = choice.candidates.first();
        self.check(e, host);
        self.envoys[e].total += 1;
        let request = self.events;
        self.in_flight.insert(request, (self.now, e, host.get()));
        let service = self.random.around(self.settings.service_ms * MS);
        self.after(service, Event::Departure { request });
    }

    /// Checks the bound of `docs/bound.md` when Envoy `e` admits a request.
    fn check(&mut self, e: usize, host: HostIndex) {
        let staleness = self.settings.staleness_ms() * MS;
        let oldest = self.now.saturating_sub(staleness);
        while self.totals.front().is_some_and(|(at, ..)| *at < oldest) {
            self.totals.pop_front();
        }
        let on = |envoy: &Envoy| envoy.in_flight.borrow()[host.get()];
        let in_flight: u64 = self.envoys.iter().map(on).sum();
        let total: u64 = self.envoys.iter().map(|envoy| envoy.total).sum();
        let capacity = |total| self.table.capacity(&self.bound, host, total);
        let over = in_flight.saturating_sub(capacity(total));
        let outcome = &mut self.outcome;
        outcome.admitted += 1;
        outcome.peak = outcome.peak.max(in_flight);
        if self.settings.scope == Scope::Process {
            // For this scope no bound is claimed; the test only records the excess.
            if over >= outcome.over {
                (outcome.over, outcome.capacity) = (over, capacity(total));
            }
            return;
        }
        let young = self
            .in_flight
            .values()
            .filter(|(began, envoy, at)| *began >= oldest && *envoy != e && *at == host.get());
        let unseen = young.count() as u64;
        // The highest total of each of the others. At the start of the window it had the total from
        // before its first change in the window.
        let mut highest: Vec<u64> = self.envoys.iter().map(|envoy| envoy.total).collect();
        for (_, envoy, total) in self.totals.iter().filter(|(_, envoy, _)| *envoy != e) {
            highest[*envoy] = highest[*envoy].max(*total);
        }
        let seen_at_most = capacity(highest.iter().sum());
        let allowed = seen_at_most - capacity(total) + unseen;
        assert!(
            over <= allowed,
            "{in_flight} in flight at a total of {total}: over by {over} of {allowed}"
        );
        let built = self.envoys[e].built.iter().enumerate();
        let age = built
            .filter(|(f, _)| *f != e)
            .map(|(_, built)| self.now - built);
        let age_ms = age.max().unwrap_or(0).div_ceil(MS);
        assert!(
            age_ms <= self.settings.staleness_ms(),
            "a view of {age_ms} ms"
        );
        outcome.oldest_ms = outcome.oldest_ms.max(age_ms);
        if allowed >= 10 {
            outcome.used_percent = outcome.used_percent.max(100 * over / allowed);
        }
        if over >= outcome.over {
            (outcome.over, outcome.allowed) = (over, allowed);
            outcome.capacity = capacity(total);
        }
    }
}

impl Envoy {
    fn adopt(&mut self, me: usize, reports: &[Report]) {
        let nobody = Share {
            rank: me as u64,
            others: reports.len() as u64 - 1,
            ..Share::default()
        };
        self.shares.fill(nobody);
        for (envoy, report) in reports.iter().enumerate() {
            self.built[envoy] = report.built;
            for (share, load) in self.shares.iter_mut().zip(&report.in_flight) {
                match envoy.cmp(&me) {
                    Ordering::Less => {
                        (share.rest, share.before) = (share.rest + load, share.before + load)
                    }
                    Ordering::Equal => share.own = *load,
                    Ordering::Greater => share.rest += load,
                }
            }
        }
    }
}

fn table(instances: usize) -> Table {
    let member = |n: usize| Member::new(&format!("i{n}"), &format!("10.0.0.{n}:80"));
    let members: Vec<Member> = (0..instances).map(member).collect();
    let shape = Shape::Fixed {
        hash: HashFunction::XxHash64,
        virtual_nodes: NonZeroU32::new(160).unwrap(),
        max_size: POINTS_MAX,
    };
    let rule = Rule::new(shape, Identity::Address);
    Table::build(&members, rule).unwrap()
}
