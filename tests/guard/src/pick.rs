//! The native module's pick of a host, and a worker's change to other hosts. Envoy's half is missing here: what it
//! takes to tell a count or an address is no part of these figures.

use std::cell::Cell;
use std::hint::black_box;
use std::num::NonZeroU64;
use std::rc::Rc;

use anyhow::{Result, ensure};
use serde_json::json;
use unitring_balancer::directory::Directory;
use unitring_balancer::placement::Placing;
use unitring_balancer::settings::Settings;
use unitring_native::attempts::Tried;
use unitring_native::loads::{Seen, Total};
use unitring_native::pick::{Picked, Picker, Sight};
use unitring_native::placed::{AllPicks, Placed};
use unitring_native::seats::{Places, Seat};
use unitring_routing::bounded::Reason;
use unitring_routing::hash::xxh64;

use crate::cases::Case;
use crate::fleet::{addresses, members};
use crate::keys::{Keys, OwnedKeys};

/// Hosts of the cluster.
const HOSTS: usize = 1_000;
/// The hard cap of a host.
const CAP: u64 = 5_000;

/// All cases, each checked to be what its name says.
pub(crate) fn cases() -> Result<Vec<Case>> {
    let settings = json!({
        "service": "orders",
        "load": {"balance_factor": 125, "min_capacity": 1, "max_in_flight": CAP},
    });
    let settings = Settings::of_policy(settings.to_string().as_bytes())?;
    let (addresses, fewer) = (addresses(HOSTS), addresses(HOSTS - 1));
    let mut all = AllPicks::default();
    let directory = Directory::first(&members(&addresses), Placing::unasked(&settings));
    let placed = Placed::nobody(&settings).update(&settings, directory, &mut all)?;
    let placed = Rc::new(placed);
    let mut cases = Vec::new();
    for (name, active, reason) in [
        ("no-load", [0, 0], Some(Reason::Primary)),
        ("owner-full", [4_000, 10], Some(Reason::Overflow)),
        ("all-full", [2 * CAP, 2 * CAP], None),
    ] {
        let mut worker = Worker::new(Rc::clone(&placed), &addresses, active);
        let (mut own, mut any) = (
            OwnedKeys::of_first(placed.usual.balancer.table()),
            Keys::default(),
        );
        let owned = reason == Some(Reason::Overflow);
        let mut pick = move || {
            let key = if owned { own.next() } else { any.next() };
            worker.pick(black_box(key))
        };
        let picked = pick();
        ensure!(picked == reason, "pick/{name}: picked for {picked:?}");
        cases.push(Case::new(format!("pick/{name}"), 250, pick));
    }
    // One of the hosts has gone: where are the others now?
    let seats = placed.usual.seats(&Hosts(&fewer));
    let lost = seats.iter().filter(|seat| seat.among_healthy().is_none());
    ensure!(lost.count() == 1, "a host has no seat");
    cases.push(Case::new("pick/seats".to_owned(), 3, move || {
        placed.usual.seats(black_box(&Hosts(&fewer)))
    }));
    Ok(cases)
}

/// One worker, and what Envoy counts.
struct Worker {
    placed: Rc<Placed>,
    seats: Vec<Seat>,
    total: Total,
    counts: Counts,
}

impl Worker {
    /// The first host has as much in flight as `active` begins with, the others what follows.
    fn new(placed: Rc<Placed>, addresses: &[String], [first, others]: [u64; 2]) -> Self {
        let counts = (0..HOSTS).map(|at| {
            let active = if at == 0 { first } else { others };
            Cell::new(Seen {
                active,
                ..Seen::default()
            })
        });
        Self {
            seats: placed.usual.seats(&Hosts(addresses)),
            total: Total::default(),
            counts: Counts(counts.collect()),
            placed,
        }
    }

    /// One pick, whose request gets a connection and ends at once. `None` if it is refused.
    fn pick(&mut self, key: &[u8]) -> Option<Reason> {
        let picker = Picker {
            sight: &self.counts,
            total: &self.total,
            cap: NonZeroU64::new(CAP),
            hash: xxh64(key),
            tried: Tried::default(),
            now_ms: 1_000,
            refused: Cell::new(false),
        };
        let picked = picker.pick(&self.placed.usual, &self.seats);
        let Picked::Host { seat, reason, .. } = picked else {
            return None;
        };
        self.total.add();
        let count = self.counts.0.get(seat.among_all()?)?;
        count.set(Seen {
            total: count.get().total + 1,
            ..count.get()
        });
        Some(reason)
    }
}

/// Envoy's counts of each host.
struct Counts(Vec<Cell<Seen>>);

impl Sight for &Counts {
    fn seen(&self, _: u32, at: usize) -> Seen {
        self.0.get(at).map(Cell::get).unwrap_or_default()
    }
    fn refuses(&self, _: u32, _: usize) -> bool {
        false
    }
}

/// Hosts of one priority, all healthy.
struct Hosts<'a>(&'a [String]);

impl Places for Hosts<'_> {
    fn count(&self, _: u32) -> usize {
        self.0.len()
    }
    fn healthy_count(&self, _: u32) -> usize {
        self.0.len()
    }
    fn address(&self, _: u32, at: usize) -> &[u8] {
        self.0.get(at).map(String::as_bytes).unwrap_or_default()
    }
    fn healthy_address(&self, priority: u32, at: usize) -> &[u8] {
        self.address(priority, at)
    }
    fn is_healthy(&self, _: u32, _: usize) -> bool {
        true
    }
}
