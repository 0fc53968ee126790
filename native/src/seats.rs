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

/// The seats of the hosts of a table, given as priority and address in the table's order.
pub(crate) fn seats<'a>(
    hosts: impl Iterator<Item = (u32, &'a str)>,
    places: &impl Places,
) -> Vec<Seat> {
    let mut walk = Walk::default();
    let mut strays = None;
    hosts
        .map(|(priority, address)| {
            let found = walk.next(priority, address.as_bytes(), places);
            // The order differs only while the table and the worker have different hosts.
            found.unwrap_or_else(|| {
                let strays = strays.get_or_insert_with(|| Strays::of(priority, places));
                if strays.priority != priority {
                    *strays = Strays::of(priority, places);
                }
                strays.seat(address.as_bytes())
            })
        })
        .collect()
}

/// Goes through a priority's hosts and its healthy ones in step with the hosts of a table, which are in the same
/// order. Repeated addresses so keep their order, too.
#[derive(Default)]
struct Walk {
    priority: u32,
    all: usize,
    healthy: usize,
}

impl Walk {
    fn next(&mut self, priority: u32, address: &[u8], places: &impl Places) -> Option<Seat> {
        if self.priority != priority {
            *self = Self {
                priority,
                ..Self::default()
            };
        }
        let count = places.count(priority);
        let ahead = self.all..count.min(self.all.saturating_add(AHEAD_MAX));
        let at = ahead
            .into_iter()
            .find(|at| places.address(priority, *at) == address)?;
        // Healthy hosts that the table does not have are passed over together with all others.
        let passed = (self.all..at).map(|at| places.address(priority, at));
        let mut healthy = self.healthy;
        for other in passed {
            if places.healthy_address(priority, healthy) == other {
                healthy += 1;
            }
        }
        let is_healthy = healthy < places.healthy_count(priority)
            && places.healthy_address(priority, healthy) == address;
        let seat = Seat {
            priority,
            all: narrow(at),
            healthy: if is_healthy { narrow(healthy) } else { NOWHERE },
        };
        (self.all, self.healthy) = (at + 1, healthy + usize::from(is_healthy));
        Some(seat)
    }
}

/// The hosts of a priority by address, for those that are not where they are expected.
struct Strays<'a> {
    priority: u32,
    all: HashMap<&'a [u8], u32>,
    healthy: HashMap<&'a [u8], u32>,
}

impl<'a> Strays<'a> {
    fn of(priority: u32, places: &'a impl Places) -> Self {
        let all = (0..places.count(priority)).map(|at| (places.address(priority, at), narrow(at)));
        let healthy = 0..places.healthy_count(priority);
        let healthy = healthy.map(|at| (places.healthy_address(priority, at), narrow(at)));
        Self {
            priority,
            all: all.collect(),
            healthy: healthy.collect(),
        }
    }

    fn seat(&self, address: &[u8]) -> Seat {
        let of = |map: &HashMap<&[u8], u32>| map.get(address).copied().unwrap_or(NOWHERE);
        Seat {
            priority: self.priority,
            all: of(&self.all),
            healthy: of(&self.healthy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hosts of each priority: address, and whether it is healthy.
    #[derive(Debug, Clone)]
    struct Listed(Vec<Vec<(String, bool)>>);

    impl Listed {
        fn of(&self, priority: u32) -> &[(String, bool)] {
            let at = usize::try_from(priority).unwrap();
            self.0.get(at).map_or(&[], Vec::as_slice)
        }
        fn healthy(&self, priority: u32) -> Vec<&[u8]> {
            let healthy = self.of(priority).iter().filter(|(_, healthy)| *healthy);
            healthy.map(|(address, _)| address.as_bytes()).collect()
        }
    }

    impl Places for Listed {
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
    }

    fn hosts() -> impl Strategy<Value = Vec<(String, bool)>> {
        // Few names, so that some repeat.
        prop::collection::vec(("[a-f]", any::<bool>()), 0..8)
    }

    proptest! {
        #[test]
        fn a_seat_names_its_host_whatever_the_table_knows(
            worker in prop::collection::vec(hosts(), 0..3),
            table in prop::collection::vec((0u32..4, "[a-g]"), 0..12),
        ) {
            let worker = Listed(worker);
            let found = seats(table.iter().map(|(p, a)| (*p, a.as_str())), &worker);
            prop_assert_eq!(found.len(), table.len());
            for (seat, (priority, address)) in found.iter().zip(&table) {
                prop_assert_eq!(seat.priority, *priority);
                if let Some(at) = seat.among_all() {
                    prop_assert_eq!(worker.address(*priority, at), address.as_bytes());
                }
                let healthy = worker.healthy(*priority);
                match seat.among_healthy() {
                    Some(at) => prop_assert_eq!(healthy[usize::try_from(at).unwrap()], address.as_bytes()),
                    None => prop_assert!(
                        !healthy.contains(&address.as_bytes())
                            || worker.of(*priority).iter().any(|(a, healthy)| a == address && !healthy)
                    ),
                }
            }
        }

        #[test]
        fn the_seats_of_the_same_hosts_are_their_places(hosts in prop::collection::vec(hosts(), 1..3)) {
            let worker = Listed(hosts);
            let mut table = Vec::new();
            for (priority, hosts) in (0u32..).zip(&worker.0) {
                table.extend(hosts.iter().map(|(address, _)| (priority, address.as_str())));
            }
            let found = seats(table.into_iter(), &worker);
            let mut found = found.iter();
            for hosts in &worker.0 {
                let mut healthy_ones = 0;
                for (at, (_, healthy)) in hosts.iter().enumerate() {
                    let seat = found.next().unwrap();
                    prop_assert_eq!(seat.among_all(), Some(at));
                    // An unhealthy host with the address of the next healthy one may pass for it: requests
                    // go to the same address.
                    if *healthy && seat.among_healthy().is_some() {
                        healthy_ones += 1;
                    }
                }
                prop_assert!(healthy_ones <= hosts.iter().filter(|(_, healthy)| *healthy).count());
            }
        }
    }
}
