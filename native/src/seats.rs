//! The hosts of a table → their places among the hosts that a worker has now.
//!
//! A policy answers with a host's place among the healthy ones, and asks for its counts by its place among all.
//! Both change with every change of hosts. The table is built on the main thread, so a worker may have older or
//! newer hosts than the table for a moment. A host without a place cannot be chosen.

use std::collections::HashMap;

/// How many hosts may be passed over in search of the next. A host further on is looked up by its address.
const AHEAD_MAX: usize = 64;
/// Up to this many hosts are searched for one by one. For more, an index of all is built.
const FEW: usize = 8;

/// The place of a host that a worker does not have.
const NOWHERE: u32 = u32::MAX;

/// The hosts of a cluster by their places. Addresses are bytes, as Envoy gives them.
pub trait Places {
    /// How many hosts a priority has.
    fn count(&self, priority: u32) -> usize;
    /// How many of them are healthy.
    fn healthy_count(&self, priority: u32) -> usize;
    /// The address of a host, by its place among all.
    fn address(&self, priority: u32, at: usize) -> &[u8];
    /// The address of a host, by its place among the healthy ones.
    fn healthy_address(&self, priority: u32, at: usize) -> &[u8];
    /// Whether a host is healthy now, by its place among all. The list of the healthy ones may be older.
    fn is_healthy(&self, priority: u32, at: usize) -> bool;
}

/// Where a worker has a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    pub priority: u32,
    all: u32,
    healthy: u32,
}

impl Seat {
    fn nowhere(priority: u32) -> Self {
        Self {
            priority,
            all: NOWHERE,
            healthy: NOWHERE,
        }
    }

    /// Its place among all hosts of its priority.
    #[inline]
    pub fn among_all(self) -> Option<usize> {
        place(self.all)
    }

    /// Its place among the healthy hosts of its priority; `None` if it is not healthy.
    #[inline]
    pub fn among_healthy(self) -> Option<u32> {
        (self.healthy != NOWHERE).then_some(self.healthy)
    }
}

#[inline]
fn place(at: u32) -> Option<usize> {
    if at == NOWHERE {
        return None;
    }
    usize::try_from(at).ok()
}

fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NOWHERE)
}

#[derive(Debug, Clone, Copy)]
pub struct TableHost<'a> {
    pub priority: u32,
    /// Its address, as Envoy writes it.
    pub address: &'a str,
    /// Whether it is healthy. An address may occur several times in a priority, healthy and not.
    pub is_healthy: bool,
}

/// The seats of the hosts of a table, in the table's order.
pub fn seats<'a>(hosts: impl Iterator<Item = TableHost<'a>>, places: &impl Places) -> Vec<Seat> {
    let mut listed: Option<Listed<'_>> = None;
    let (mut seats, mut missing) = (Vec::new(), Vec::new());
    for host in hosts {
        let listed = match &mut listed {
            Some(listed) if listed.priority == host.priority => listed,
            other => {
                if let Some(before) = other {
                    before.search(&mut seats, &mut missing);
                }
                other.insert(Listed::of(host.priority, places))
            }
        };
        let seat = listed.next(host);
        if seat.is_none() {
            missing.push((seats.len(), host.address));
        }
        seats.push(seat.unwrap_or(Seat::nowhere(host.priority)));
    }
    if let Some(listed) = listed {
        listed.search(&mut seats, &mut missing);
    }
    seats
}

/// The hosts of a priority as the worker has them, of which the seats are taken.
struct Listed<'a> {
    priority: u32,
    /// The address of each host, and its place among the healthy ones.
    hosts: Vec<(&'a [u8], u32)>,
    /// How many hosts have been passed: the hosts of a table are mostly in Envoy's order.
    met: usize,
    /// How many of the next ones may be the one that is looked for.
    ahead: usize,
}

impl<'a> Listed<'a> {
    fn of(priority: u32, places: &'a impl Places) -> Self {
        let (count, healthy_count) = (places.count(priority), places.healthy_count(priority));
        let all = (0..count).map(|at| places.address(priority, at));
        let hosts = if healthy_count == count {
            all.zip(0..).collect()
        } else {
            let mut next = 0;
            let of = |(at, address)| {
                let is_next =
                    next < healthy_count && places.healthy_address(priority, next) == address;
                // The healthy hosts are in the order of all. A host may have fallen ill since they were listed; but
                // if a healthy one of the same address follows, that is the one that is listed.
                if !is_next || !places.is_healthy(priority, at) && has_twin(priority, at, places) {
                    return (address, NOWHERE);
                }
                next += 1;
                (address, narrow(next - 1))
            };
            all.enumerate().map(of).collect()
        };
        Self {
            priority,
            hosts,
            met: 0,
            ahead: AHEAD_MAX,
        }
    }

    /// The seat of the table's next host, if it is one of the next ones here.
    fn next(&mut self, host: TableHost<'_>) -> Option<Seat> {
        let ahead = self.hosts.iter().skip(self.met).take(self.ahead);
        let found = ahead.enumerate().find(|(_, (address, healthy))| {
            (*healthy != NOWHERE) == host.is_healthy && *address == host.address.as_bytes()
        });
        let Some((passed, _)) = found else {
            // If the orders differ, most searches find nothing, so the next one is shorter.
            self.ahead = (self.ahead / 2).max(1);
            return None;
        };
        let at = self.met + passed;
        self.met = at + 1;
        self.ahead = AHEAD_MAX;
        self.seat(at)
    }

    fn seat(&self, at: usize) -> Option<Seat> {
        let (_, healthy) = self.hosts.get(at)?;
        Some(Seat {
            priority: self.priority,
            all: narrow(at),
            healthy: *healthy,
        })
    }

    /// Looks for hosts that were not where they were expected, as while the table and the worker have different
    /// hosts, and where localities have weights. Each has a number in the table, and an address.
    fn search(&self, seats: &mut [Seat], missing: &mut Vec<(usize, &str)>) {
        let by_address = (missing.len() > FEW).then(|| self.by_address());
        for (number, address) in missing.drain(..) {
            let at = match &by_address {
                Some(by_address) => by_address.get(address.as_bytes()).copied(),
                None => self.find(address.as_bytes()),
            };
            let seat = at.and_then(|at| self.seat(at));
            if let Some((place, seat)) = seats.get_mut(number).zip(seat) {
                *place = seat;
            }
        }
    }

    /// A host with this address: a healthy one if there is one.
    fn find(&self, address: &[u8]) -> Option<usize> {
        let mut same = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, (other, _))| *other == address);
        let (first, (_, healthy)) = same.next()?;
        if *healthy != NOWHERE {
            return Some(first);
        }
        let healthy = same.find(|(_, (_, healthy))| *healthy != NOWHERE);
        Some(healthy.map_or(first, |(at, _)| at))
    }

    /// A host for each address: a healthy one if there is one.
    fn by_address(&self) -> HashMap<&'a [u8], usize> {
        let mut found: HashMap<&[u8], usize> = HashMap::with_capacity(self.hosts.len());
        let is_ill = |at: usize| {
            self.hosts
                .get(at)
                .is_none_or(|(_, healthy)| *healthy == NOWHERE)
        };
        for (at, (address, _)) in self.hosts.iter().enumerate() {
            let kept = found.entry(address).or_insert(at);
            if is_ill(*kept) && !is_ill(at) {
                *kept = at;
            }
        }
        found
    }
}

/// Whether a healthy host of the same address comes soon.
fn has_twin(priority: u32, at: usize, places: &impl Places) -> bool {
    let address = places.address(priority, at);
    let others = (at + 1..places.count(priority)).take(AHEAD_MAX);
    others.into_iter().any(|other| {
        places.address(priority, other) == address && places.is_healthy(priority, other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hosts of each priority: address, and whether it is healthy.
    #[derive(Debug, Clone)]
    struct Worker(Vec<Vec<(String, bool)>>);

    impl Worker {
        fn of(&self, priority: u32) -> &[(String, bool)] {
            let at = usize::try_from(priority).unwrap();
            self.0.get(at).map_or(&[], Vec::as_slice)
        }
        fn healthy(&self, priority: u32) -> Vec<&[u8]> {
            let healthy = self.of(priority).iter().filter(|(_, healthy)| *healthy);
            healthy.map(|(address, _)| address.as_bytes()).collect()
        }
        /// The places of the healthy hosts among all.
        fn places(&self, priority: u32) -> Vec<usize> {
            let hosts = self.of(priority).iter().enumerate();
            hosts
                .filter(|(_, (_, healthy))| *healthy)
                .map(|(at, _)| at)
                .collect()
        }
    }

    impl Places for Worker {
        fn count(&self, priority: u32) -> usize {
            self.of(priority).len()
        }
        fn healthy_count(&self, priority: u32) -> usize {
            self.healthy(priority).len()
        }
        fn address(&self, priority: u32, at: usize) -> &[u8] {
            self.of(priority)
                .get(at)
                .map_or(b"", |(address, _)| address.as_bytes())
        }
        fn healthy_address(&self, priority: u32, at: usize) -> &[u8] {
            self.healthy(priority).get(at).copied().unwrap_or(b"")
        }
        fn is_healthy(&self, priority: u32, at: usize) -> bool {
            self.of(priority)
                .get(at)
                .is_some_and(|(_, healthy)| *healthy)
        }
    }

    fn hosts() -> impl Strategy<Value = Vec<(String, bool)>> {
        // Few names, so that some repeat.
        prop::collection::vec(("[a-f]", any::<bool>()), 0..8)
    }

    fn seats_of(table: &[(u32, String, bool)], worker: &Worker) -> Vec<Seat> {
        let placed = table
            .iter()
            .map(|(priority, address, is_healthy)| TableHost {
                priority: *priority,
                address,
                is_healthy: *is_healthy,
            });
        seats(placed, worker)
    }

    proptest! {
        #[test]
        fn a_seat_names_its_host_whatever_the_table_knows(
            worker in prop::collection::vec(hosts(), 0..3),
            table in prop::collection::vec((0u32..4, "[a-g]", any::<bool>()), 0..30),
        ) {
            let worker = Worker(worker);
            let found = seats_of(&table, &worker);
            prop_assert_eq!(found.len(), table.len());
            for (seat, (priority, address, is_healthy)) in found.iter().zip(&table) {
                prop_assert_eq!(seat.priority, *priority);
                let all = seat.among_all();
                if let Some(at) = all {
                    prop_assert_eq!(worker.address(*priority, at), address.as_bytes());
                }
                let healthy = worker.healthy(*priority);
                match seat.among_healthy() {
                    // Both places are those of one host.
                    Some(at) => prop_assert_eq!(
                        all,
                        Some(worker.places(*priority)[usize::try_from(at).unwrap()])
                    ),
                    None => prop_assert!(!is_healthy || !healthy.contains(&address.as_bytes())),
                }
            }
        }

        #[test]
        fn the_seats_of_the_same_hosts_are_their_places(hosts in prop::collection::vec(hosts(), 1..3)) {
            let worker = Worker(hosts);
            let mut table = Vec::new();
            for (priority, hosts) in (0u32..).zip(&worker.0) {
                table.extend(hosts.iter().map(|(address, healthy)| (priority, address.clone(), *healthy)));
            }
            let found = seats_of(&table, &worker);
            let mut found = found.iter();
            for hosts in &worker.0 {
                let mut healthy_ones = 0;
                for (at, (_, healthy)) in hosts.iter().enumerate() {
                    let seat = found.next().unwrap();
                    prop_assert_eq!(seat.among_all(), Some(at));
                    prop_assert_eq!(seat.among_healthy(), healthy.then_some(healthy_ones));
                    healthy_ones += u32::from(*healthy);
                }
            }
        }
    }

    #[test]
    fn a_healthy_host_is_found_in_any_order_beside_an_unhealthy_one_of_its_address() {
        let hosts = [
            ("a", false),
            ("b", true),
            ("c", true),
            ("b", false),
            ("a", true),
            ("c", false),
        ];
        let worker = Worker(vec![
            hosts
                .map(|(address, healthy)| (address.to_owned(), healthy))
                .to_vec(),
        ]);
        let table = ["a", "b", "c"].map(|address| (0, address.to_owned(), true));
        let found = seats_of(&table, &worker);
        let places: Vec<_> = found
            .iter()
            .map(|seat| (seat.among_all(), seat.among_healthy()))
            .collect();
        assert_eq!(
            places,
            [(Some(4), Some(2)), (Some(1), Some(0)), (Some(2), Some(1))]
        );
    }
}
