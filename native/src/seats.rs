//! The hosts of a table → their places among the hosts that a worker has now.
//!
//! A policy answers with a host's place among the healthy ones, and asks for its counts by its place among all.
//! Both change with every change of hosts. The table is built on the main thread, so a worker may have older or
//! newer hosts than the table for a moment. A host without a place cannot be chosen.

use std::collections::HashMap;

/// How many hosts may be passed over in search of the next. A host further on is looked up by its address.
const AHEAD_MAX: usize = 64;

/// The place of a host that a worker does not have.
const NOWHERE: u32 = u32::MAX;

/// The hosts of a cluster by their places. Addresses are bytes, as Envoy gives them.
pub(crate) trait Places {
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
pub(crate) struct Seat {
    /// Its priority.
    pub(crate) priority: u32,
    all: u32,
    healthy: u32,
}

impl Seat {
    /// Its place among all hosts of its priority.
    #[inline]
    pub(crate) fn among_all(self) -> Option<usize> {
        place(self.all)
    }

    /// Its place among the healthy hosts of its priority; `None` if it is not healthy.
    #[inline]
    pub(crate) fn among_healthy(self) -> Option<u32> {
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

/// A host of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableHost<'a> {
    pub(crate) priority: u32,
    pub(crate) address: &'a str,
    /// Whether it is healthy. An address may occur several times in a priority, healthy and not.
    pub(crate) is_healthy: bool,
}

/// The seats of the hosts of a table, in the table's order.
pub(crate) fn seats<'a>(
    hosts: impl Iterator<Item = TableHost<'a>>,
    places: &impl Places,
) -> Vec<Seat> {
    let mut listed: Option<Listed<'_, _>> = None;
    hosts
        .map(|host| {
            let listed = match &mut listed {
                Some(listed) if listed.priority == host.priority => listed,
                other => other.insert(Listed::of(host.priority, places)),
            };
            listed.seat(host)
        })
        .collect()
}

/// The hosts of a priority as the worker has them, of which the seats are taken.
struct Listed<'a, P> {
    priority: u32,
    places: &'a P,
    /// For each host its place among the healthy ones.
    healthy: Vec<u32>,
    /// Up to here hosts have been met: those of a table are mostly in Envoy's order.
    met: usize,
    /// By address, for those that are not where they are expected. Made when it is needed.
    by_address: Option<HashMap<&'a [u8], Seat>>,
}

impl<'a, P: Places> Listed<'a, P> {
    fn of(priority: u32, places: &'a P) -> Self {
        let mut next = 0;
        let count = places.count(priority);
        let healthy = (0..count).map(|at| {
            let address = places.address(priority, at);
            let is_next = next < places.healthy_count(priority)
                && places.healthy_address(priority, next) == address;
            // The healthy hosts are in the order of all. A host may have fallen ill since they were listed; but if
            // a healthy one of the same address follows, that is the one that is listed.
            if !is_next || !places.is_healthy(priority, at) && has_twin(priority, at, places) {
                return NOWHERE;
            }
            next += 1;
            narrow(next - 1)
        });
        Self {
            priority,
            places,
            healthy: healthy.collect(),
            met: 0,
            by_address: None,
        }
    }

    fn seat(&mut self, host: TableHost<'_>) -> Seat {
        let (priority, address) = (self.priority, host.address.as_bytes());
        let ahead = self.healthy.iter().enumerate().skip(self.met);
        let found = ahead.take(AHEAD_MAX).find(|(at, healthy)| {
            (**healthy != NOWHERE) == host.is_healthy
                && self.places.address(priority, *at) == address
        });
        if let Some((at, healthy)) = found {
            self.met = at + 1;
            return Seat {
                priority,
                all: narrow(at),
                healthy: *healthy,
            };
        }
        // The order differs while the table and the worker have different hosts, and where localities have weights.
        let by_address = self
            .by_address
            .get_or_insert_with(|| by_address(priority, self.places, &self.healthy));
        by_address.get(address).copied().unwrap_or(Seat {
            priority,
            all: NOWHERE,
            healthy: NOWHERE,
        })
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

/// A seat for each address: that of a healthy host if there is one.
fn by_address<'a>(
    priority: u32,
    places: &'a impl Places,
    healthy: &[u32],
) -> HashMap<&'a [u8], Seat> {
    let mut seats: HashMap<&[u8], Seat> = HashMap::new();
    for (at, healthy) in healthy.iter().enumerate() {
        let seat = Seat {
            priority,
            all: narrow(at),
            healthy: *healthy,
        };
        let kept = seats.entry(places.address(priority, at)).or_insert(seat);
        if kept.among_healthy().is_none() {
            *kept = seat;
        }
    }
    seats
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
            table in prop::collection::vec((0u32..4, "[a-g]", any::<bool>()), 0..12),
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
