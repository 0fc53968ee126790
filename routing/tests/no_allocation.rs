//! A choice allocates nothing and asks a bounded number of instances, whatever the load: it runs in
//! every request, in a filter whose allocator is slow.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::{NonZeroU32, NonZeroU64};

use unitring_routing::bounded::{Bound, Loads, Reason, TRIED_MAX};
use unitring_routing::hash::{HashFunction, xxh64};
use unitring_routing::key::{KeyHash, cookie_hash, header_hash, query_hash};
use unitring_routing::membership::{Cause, Identity, Member, State};
use unitring_routing::ring::{POINTS_MAX, Shape};
use unitring_routing::table::{Rule, Table};

/// Counts this thread's allocations; other threads run other tests.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const INSTANCES: usize = 1_000;
const KEYS: u32 = 5_000;

/// Loads that count how often they are asked.
struct Asked {
    loads: Vec<Cell<u64>>,
    total: u64,
    takes: Cell<usize>,
    reads: Cell<usize>,
    estimates: Cell<usize>,
    totals: Cell<usize>,
}

fn count(counter: &Cell<usize>) {
    counter.set(counter.get() + 1);
}

impl Asked {
    fn of(load: impl Fn(usize) -> u64) -> Self {
        let loads: Vec<u64> = (0..INSTANCES).map(load).collect();
        Self {
            total: loads.iter().sum(),
            loads: loads.into_iter().map(Cell::new).collect(),
            takes: Cell::default(),
            reads: Cell::default(),
            estimates: Cell::default(),
            totals: Cell::default(),
        }
    }

    /// Takes, reads, estimates and totals since the last call.
    fn counted(&self) -> [usize; 4] {
        [&self.takes, &self.reads, &self.estimates, &self.totals].map(Cell::take)
    }
}

impl Loads for Asked {
    fn take(&self, host: usize) {
        count(&self.takes);
        self.loads[host].set(self.loads[host].get() + 1);
    }
    fn give_back(&self, host: usize) {
        self.loads[host].set(self.loads[host].get() - 1);
    }
    fn in_flight(&self, host: usize) -> u64 {
        count(&self.reads);
        self.loads[host].get()
    }
    fn estimate(&self, host: usize) -> u64 {
        count(&self.estimates);
        self.loads[host].get()
    }
    fn total(&self) -> u64 {
        count(&self.totals);
        self.total
    }
}

fn members() -> Vec<Member> {
    let address = |n: usize| format!("10.0.{}.{}:80", n / 250, n % 250);
    let member = |n: usize| Member::new(&format!("i{n}"), &address(n));
    (0..INSTANCES).map(member).collect()
}

fn shapes() -> [Shape; 3] {
    let hash = HashFunction::XxHash64;
    [
        Shape::Envoy {
            hash,
            min_size: 1_024,
            max_size: POINTS_MAX,
        },
        Shape::Fixed {
            hash,
            virtual_nodes: NonZeroU32::new(160).unwrap(),
            max_size: POINTS_MAX,
        },
        Shape::Maglev {
            table_size: NonZeroU32::new(65_537).unwrap(),
        },
    ]
}

fn tables() -> Vec<Table> {
    let whole = members();
    let mut partly = whole.clone();
    for member in partly.iter_mut().step_by(3) {
        member.state = State::Failed(Cause::GatewayFailures);
    }
    for member in partly.iter_mut().skip(1).step_by(7) {
        member.state = State::Draining;
    }
    let rules = shapes().map(|shape| Rule::new(shape, Identity::Address));
    let built = rules
        .iter()
        .flat_map(|rule| [&whole, &partly].map(|members| Table::build(members, *rule).unwrap()));
    built.collect()
}

fn bounds() -> [Bound; 4] {
    let bound = Bound {
        balance_factor: NonZeroU32::new(125),
        min_capacity: 1,
        max_in_flight: None,
    };
    let cap = NonZeroU64::new(100);
    [
        Bound::default(),
        bound,
        Bound {
            max_in_flight: cap,
            ..bound
        },
        Bound {
            max_in_flight: cap,
            ..Bound::default()
        },
    ]
}

/// No load; a third of the instances full; one instance with room; none with room, since the known
/// total is older than the loads; none under the cap.
fn loads() -> [Asked; 5] {
    let old = Asked {
        total: 1_000,
        ..Asked::of(|_| 60)
    };
    [
        old,
        Asked::of(|_| 10),
        Asked::of(|n| if n % 3 == 0 { 90 } else { 1 }),
        Asked::of(|n| if n == 617 { 1 } else { 60 }),
        Asked::of(|_| 100),
    ]
}

/// Calls `check` after each choice with every table, bound and load, with the cost of the choice.
fn every_choice(check: impl Fn(Reason, u64, [usize; 4])) -> Vec<Reason> {
    let mut reasons = Vec::with_capacity(8);
    for table in tables() {
        for bound in bounds() {
            for loads in loads() {
                for key in 0..KEYS / 20 {
                    let before = ALLOCATIONS.get();
                    let hash = xxh64(&key.to_le_bytes());
                    let choice = table.choose(hash, 8, &bound, &loads).unwrap();
                    let allocated = ALLOCATIONS.get() - before;
                    check(choice.reason, allocated, loads.counted());
                    if choice.reason != Reason::Full {
                        loads.give_back(choice.candidates.first().get());
                    }
                    if !reasons.contains(&choice.reason) {
                        reasons.push(choice.reason);
                    }
                }
            }
        }
    }
    reasons
}

#[test]
fn a_choice_allocates_nothing_whatever_the_load_and_the_health() {
    let reasons = every_choice(|reason, allocated, _| {
        assert_eq!(allocated, 0, "{reason:?}");
    });
    assert_eq!(reasons.len(), 5, "every way was gone: {reasons:?}");
}

/// Places of a key's own sequence.
const JUMPS_MAX: usize = 64;

#[test]
fn a_choice_asks_a_bounded_number_of_instances() {
    every_choice(|reason, _, [takes, reads, estimates, totals]| {
        // The last one is the least loaded instance, which is asked again.
        assert!(takes <= TRIED_MAX + 1, "{reason:?}: {takes} places taken");
        assert!(reads <= TRIED_MAX + 1, "{reason:?}: {reads} read");
        // Each instance once for the least loaded, and under a cap each that may take a retry.
        let most = INSTANCES + JUMPS_MAX + TRIED_MAX;
        assert!(estimates <= most, "{reason:?}: {estimates} estimates");
        assert!(totals <= TRIED_MAX + 1, "{reason:?}: {totals} totals");
    });
}

#[test]
fn where_the_owner_has_room_one_instance_is_asked_once() {
    let table = &tables()[0];
    let loads = Asked::of(|_| 10);
    for key in 0..KEYS {
        let hash = xxh64(&key.to_le_bytes());
        let choice = table.choose(hash, 3, &bounds()[1], &loads).unwrap();
        assert_eq!(
            (choice.reason, loads.counted()),
            (Reason::Primary, [1, 1, 0, 1])
        );
        loads.give_back(choice.candidates.first().get());
    }
}

#[test]
fn a_hash_key_is_made_without_an_allocation() {
    let mut header = [b"b".as_slice(), b"a"];
    let cookies = [b"a=1; sid=\"ada\"; b=2".as_slice()];
    let before = ALLOCATIONS.get();
    let sources = [
        header_hash(&mut header),
        cookie_hash(cookies, b"sid"),
        query_hash(b"/cart?x=1&user=ada", b"user"),
    ];
    let key = sources
        .into_iter()
        .flatten()
        .fold(KeyHash::default(), KeyHash::and);
    let allocated = ALLOCATIONS.get() - before;
    assert_eq!((allocated, key.finish().is_some()), (0, true));
}
