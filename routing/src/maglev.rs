//! Eligible instances → a table that they fill in turn → the owner of a hash: Envoy's `MAGLEV`
//! (Eisenbud et al., NSDI 2016; `maglev_lb.cc` of Envoy 1.40).
//!
//! Each host has a permutation of the slots, made from two hashes of its name. In each round a host
//! takes its next free slot if its weight allows. Envoy asks every host in every round; here a host
//! waits in a queue for the round in which it is due, so that a table costs as many steps as it has
//! slots, however unequal the weights are. A change of membership fills the table anew.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use crate::hash::xxh64_seeded;
use crate::names::Names;
use crate::ring::{self, Host, HostIndex, as_f64};

/// Envoy's default size of the table.
pub const TABLE_SIZE: u32 = 65_537;
/// [`TABLE_SIZE`] as a table is built with it.
pub const USUAL_TABLE_SIZE: NonZeroU32 = match NonZeroU32::new(TABLE_SIZE) {
    Some(size) => size,
    None => NonZeroU32::MIN,
};
/// The greatest size that Envoy allows.
pub const TABLE_SIZE_MAX: u32 = 5_000_011;

/// The table; empty if it was built from no hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Maglev {
    slots: Box<[u32]>,
}

struct Filling {
    host: u32,
    weight: f64,
    /// The value that rounds times weight must reach before the host takes its next slot.
    target: f64,
    slot: u64,
    skip: u64,
}

impl Maglev {
    pub(crate) fn build(hosts: &[Host<'_>], table_size: NonZeroU32) -> Self {
        let size = u64::from(table_size.get());
        let shares = ring::shares(hosts);
        let greatest = shares.iter().copied().fold(0.0, f64::max);
        // In order of name, so that the order in which Envoy lists hosts does not matter.
        let names = Names::of(hosts.iter().map(|host| host.name));
        let mut fillings: Vec<Filling> = names
            .iter()
            .filter_map(|(name, at)| {
                Some(Filling {
                    host: u32::try_from(at).ok()?,
                    weight: *shares.get(at)?,
                    target: 0.0,
                    slot: xxh64_seeded(name.as_bytes(), 0) % size,
                    skip: xxh64_seeded(name.as_bytes(), 1) % (size - 1).max(1) + 1,
                })
            })
            .collect();
        let mut slots: Vec<Option<u32>> = vec![None; usize::try_from(size).unwrap_or(0)];
        // By round, then by name, as in Envoy's loop over rounds and hosts.
        let mut due: BinaryHeap<Reverse<(u64, usize)>> = (0..fillings.len())
            .map(|place| Reverse((1, place)))
            .collect();
        for _ in 0..size {
            let Some(Reverse((round, place))) = due.pop() else {
                break;
            };
            let Some(filling) = fillings.get_mut(place) else {
                break;
            };
            filling.target += greatest;
            filling.take_slot(&mut slots, size);
            due.push(Reverse((filling.due_after(round), place)));
        }
        Self {
            slots: slots.into_iter().flatten().collect(),
        }
    }

    #[inline]
    pub(crate) fn owner(&self, hash: u64) -> Option<HostIndex> {
        let size = u64::try_from(self.slots.len()).ok()?;
        let slot = usize::try_from(hash.checked_rem(size)?).ok()?;
        self.slots.get(slot).copied().map(HostIndex::new)
    }

    pub(crate) fn slots(&self) -> &[u32] {
        &self.slots
    }
}

impl Filling {
    /// The first later round in which its weight allows another slot.
    fn due_after(&self, round: u64) -> u64 {
        let is_due = |round: u64| as_f64(round) * self.weight >= self.target;
        // A quotient of doubles may be one off from Envoy's product.
        let mut due = as_u64(self.target / self.weight).max(round + 1);
        while due > round + 1 && is_due(due - 1) {
            due -= 1;
        }
        while !is_due(due) {
            due += 1;
        }
        due
    }

    /// Takes the next free slot of its permutation; the caller ensures that there is one.
    fn take_slot(&mut self, slots: &mut [Option<u32>], size: u64) {
        for _ in 0..size {
            let slot = usize::try_from(self.slot).ok();
            self.slot = (self.slot + self.skip) % size;
            if let Some(place @ None) = slot.and_then(|slot| slots.get_mut(slot)) {
                *place = Some(self.host);
                return;
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of rounds: positive, and far below 2^53"
)]
fn as_u64(value: f64) -> u64 {
    value as u64
}

/// Whether a table may have this size. Only with a prime does every permutation reach every slot.
pub fn is_prime(number: u32) -> bool {
    let divisors = (2u32..)
        .take_while(|divisor| u64::from(*divisor) * u64::from(*divisor) <= u64::from(number));
    number >= 2
        && divisors
            .into_iter()
            .all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::WEIGHT_UNIT;
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    fn table(weights: &[u64], size: u32) -> Maglev {
        let names: Vec<String> = (1..=weights.len())
            .map(|n| format!("10.0.0.{n}:80"))
            .collect();
        let hosts: Vec<Host<'_>> = names
            .iter()
            .zip(weights)
            .map(|(name, weight)| Host::new(name, NonZeroU64::new(weight * WEIGHT_UNIT).unwrap()))
            .collect();
        Maglev::build(&hosts, NonZeroU32::new(size).unwrap())
    }

    #[test]
    fn slots_are_shared_by_weight() {
        let table = table(&[1, 2, 3, 1], TABLE_SIZE);
        assert_eq!(table.slots().len(), 65_537);
        for (host, weight) in (0u32..).zip([1, 2, 3, 1]) {
            let taken = table.slots().iter().filter(|slot| **slot == host).count();
            let fair = 65_537 * weight / 7;
            assert!(taken.abs_diff(fair) <= 3, "{host}: {taken}, fair {fair}");
        }
    }

    #[test]
    fn more_hosts_than_slots_and_none_at_all_come_to_an_end() {
        assert_eq!(table(&[1; 40], 17).slots().len(), 17);
        assert_eq!(table(&[], 17).owner(3), None);
        assert_eq!(table(&[5], 2).owner(3), Some(HostIndex::new(0)));
    }

    /// How many slots each host takes, by a loop over rounds and hosts as in Envoy.
    fn taken_round_by_round(weights: &[u64], size: usize) -> Vec<usize> {
        let sum: u64 = weights.iter().sum();
        let parts: Vec<f64> = weights.iter().map(|w| *w as f64 / sum as f64).collect();
        let greatest = parts.iter().copied().fold(0.0, f64::max);
        let (mut targets, mut taken) = (vec![0.0; parts.len()], vec![0; parts.len()]);
        let (mut free, mut round) = (size, 0.0);
        while free > 0 {
            round += 1.0;
            for host in 0..parts.len() {
                if free > 0 && round * parts[host] >= targets[host] {
                    targets[host] += greatest;
                    taken[host] += 1;
                    free -= 1;
                }
            }
        }
        taken
    }

    proptest! {
        #[test]
        fn whoever_is_due_is_found_without_asking_everybody(
            weights in prop::collection::vec(1u64..1_000_000, 1..12),
            size in prop::sample::select(vec![2u32, 17, 251, 1_009]),
        ) {
            let table = table(&weights, size);
            let count = |host: u32| table.slots().iter().filter(|slot| **slot == host).count();
            let taken: Vec<usize> = (0u32..).take(weights.len()).map(count).collect();
            // Hosts take turns in the order of their names.
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by_key(|n| format!("10.0.0.{}:80", n + 1));
            let ordered: Vec<u64> = order.iter().map(|n| weights[*n] * WEIGHT_UNIT).collect();
            let expected = taken_round_by_round(&ordered, table.slots().len());
            let found: Vec<usize> = order.iter().map(|n| taken[*n]).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn unequal_weights_cost_no_more_than_equal_ones() {
        // Round by round this would take 10^9 steps.
        let mut weights = vec![1; 16_000];
        weights[0] = u64::from(u32::MAX);
        assert_eq!(table(&weights, TABLE_SIZE).slots().len(), 65_537);
    }

    #[test]
    fn primes_are_told_from_others() {
        for prime in [2, 3, 17, TABLE_SIZE, TABLE_SIZE_MAX] {
            assert!(is_prime(prime), "{prime}");
        }
        for other in [0, 1, 4, 65_536, 65_539 * 3, 5_000_010] {
            assert!(!is_prime(other), "{other}");
        }
    }
}
