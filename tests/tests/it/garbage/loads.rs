//! The use of accepted inputs: instances, their gauges, and a choice among them.

use std::cell::RefCell;

use unitring_balancer::balancer::Balancer;
use unitring_balancer::directory::stat_names::StatNames;
use unitring_balancer::directory::{Directory, Shown, Totals};
use unitring_balancer::placement::Placing;
use unitring_balancer::settings::{Services, Settings};
use unitring_routing::bounded::{Loads, Reason};
use unitring_routing::membership::Member;
use unitring_routing::ring::Shape;

/// The gauges of a process.
#[derive(Default)]
pub(super) struct Gauges(RefCell<Vec<u64>>);

impl Gauges {
    fn at(&self, host: usize, change: impl Fn(u64) -> u64) -> u64 {
        let mut gauges = self.0.borrow_mut();
        if gauges.len() <= host {
            gauges.resize(host + 1, 3);
        }
        gauges[host] = change(gauges[host]);
        gauges[host]
    }
}

impl Loads for Gauges {
    fn take(&self, host: usize) {
        self.at(host, |load| load + 1);
    }
    fn give_back(&self, host: usize) {
        self.at(host, |load| {
            load.checked_sub(1).expect("given back more than taken")
        });
    }
    fn in_flight(&self, host: usize) -> u64 {
        self.at(host, |load| load)
    }
    fn estimate(&self, host: usize) -> u64 {
        self.in_flight(host)
    }
    fn total(&self) -> u64 {
        self.0.borrow().iter().sum()
    }
}

pub(super) const SERVICE: &str = r#"{"service": "orders", "ring": {"min_size": 16},
    "load": {"min_capacity": 1}}"#;

pub(super) fn settings(json: &str) -> Settings {
    Services::parse(json.as_bytes()).unwrap().all.remove(0)
}

pub(super) fn members() -> Vec<Member> {
    let address = |port: u16| format!("10.0.0.1:{port}");
    let member = |port| Member::new(&address(port), &address(port));
    (1..=4).map(member).collect()
}

pub(super) fn directory(members: &[Member]) -> Directory {
    let shown = |_: &str| Shown {
        totals: Totals {
            calls: 1,
            failures: 1,
            updates: u64::MAX,
            ..Totals::default()
        },
        in_flight: 1,
        ..Shown::default()
    };
    let placing = Placing::unasked(&settings(SERVICE));
    let names = &mut StatNames::default();
    Directory::empty(placing).with(members, placing, names, shown)
}

/// Places requests, and gives back the places they took.
pub(super) fn choose(balancer: &Balancer, hashes: [Option<u64>; 3]) {
    let gauges = Gauges::default();
    let mut header = String::new();
    for hash in hashes {
        if let Ok(choice) = balancer.decide(hash, &gauges) {
            balancer.write_candidates(&choice, &mut header);
            if choice.reason != Reason::Full {
                gauges.give_back(choice.candidates.first().get());
            }
        }
    }
}

/// Whether a ring of these members is fast to build, so that the test can build many. Larger rings run
/// the same code.
pub(super) fn is_small(shape: Shape, members: &[Member]) -> bool {
    const POINTS: u64 = 2_048;
    let weights = members.iter().map(|member| u64::from(member.weight.get()));
    match shape {
        // Very unequal weights may need very many points.
        Shape::Envoy {
            min_size, max_size, ..
        } => {
            let (least, sum) = (weights.clone().min().unwrap_or(1), weights.sum::<u64>());
            max_size <= POINTS || min_size.saturating_add(sum / least.max(1)) <= POINTS
        }
        // Above `max_size` the ring is refused at once.
        Shape::Fixed {
            virtual_nodes,
            max_size,
            ..
        } => {
            let points = u64::from(virtual_nodes.get()).saturating_mul(weights.sum());
            max_size <= POINTS || points <= POINTS || points > max_size
        }
        Shape::Maglev { table_size } => u64::from(table_size.get()) <= POINTS,
    }
}
