//! Properties of the bounded choice.

use super::*;
use crate::ring::{Host, Shape};
use proptest::prelude::*;

struct Fleet {
    loads: Vec<u64>,
    weights: Vec<u32>,
}

impl Loads for Fleet {
    fn in_flight(&self, host: HostIndex) -> u64 {
        self.loads[host.get()]
    }
    fn total(&self) -> u64 {
        self.loads.iter().sum()
    }
    fn weight(&self, host: HostIndex) -> (NonZeroU32, u64) {
        let sum = self.weights.iter().map(|weight| u64::from(*weight)).sum();
        (NonZeroU32::new(self.weights[host.get()]).unwrap(), sum)
    }
    fn hosts(&self) -> usize {
        self.loads.len()
    }
}

fn ring(weights: &[u32]) -> Ring {
    let names: Vec<String> = (0..weights.len())
        .map(|n| format!("10.0.0.1:{n}"))
        .collect();
    let hosts: Vec<Host<'_>> = names
        .iter()
        .zip(weights)
        .map(|(name, weight)| Host {
            name,
            weight: NonZeroU32::new(*weight).unwrap(),
        })
        .collect();
    Ring::build(
        &hosts,
        Shape::Envoy {
            min_size: 256,
            max_size: 1 << 20,
        },
    )
    .unwrap()
}

fn bound(balance_factor: u32, min_capacity: u64) -> Bound {
    Bound {
        balance_factor: NonZeroU32::new(balance_factor).unwrap(),
        min_capacity,
    }
}

#[test]
fn a_key_stays_with_its_owner_while_the_owner_is_under_min_capacity() {
    let fleet = Fleet {
        loads: vec![15; 4],
        weights: vec![1; 4],
    };
    let ring = ring(&fleet.weights);
    for hash in (0..100).map(mix) {
        let choice = choose(&ring, hash, 3, Some(&bound(100, 16)), &fleet).unwrap();
        assert_eq!(choice.reason, Reason::Primary);
        assert_eq!(Some(choice.candidates.first()), ring.owner(hash));
    }
}

#[test]
fn a_full_owners_keys_spread_over_all_others() {
    let fleet = Fleet {
        loads: vec![100, 0, 0, 0],
        weights: vec![1; 4],
    };
    let ring = ring(&fleet.weights);
    let mut taken = [0; 4];
    for hash in (0..10_000).map(mix) {
        let choice = choose(&ring, hash, 1, Some(&bound(125, 1)), &fleet).unwrap();
        if choice.reason == Reason::Overflow {
            taken[choice.candidates.first().get()] += 1;
        }
    }
    let total: i32 = taken.iter().sum();
    assert_eq!(taken[0], 0);
    assert!(total > 1_500, "{taken:?}");
    assert!(
        taken[1..].iter().all(|count| *count > total / 6),
        "no cascade: {taken:?}"
    );
}

#[test]
fn where_all_are_full_the_least_loaded_for_its_weight_takes_it() {
    // A capacity of ceil(1.00 · 21 / 2) = 11 and 11 in flight on both would leave no room; here
    // the second carries less for its weight.
    let fleet = Fleet {
        loads: vec![40, 100],
        weights: vec![1, 3],
    };
    let ring = ring(&fleet.weights);
    let none = Bound {
        balance_factor: NonZeroU32::MIN,
        min_capacity: 0,
    };
    for hash in (0..100).map(mix) {
        let choice = choose(&ring, hash, 2, Some(&none), &fleet).unwrap();
        assert_eq!(
            (choice.candidates.first().get(), choice.reason),
            (1, Reason::LeastLoaded)
        );
    }
}

#[test]
fn an_empty_ring_chooses_nothing() {
    let fleet = Fleet {
        loads: vec![],
        weights: vec![],
    };
    assert_eq!(
        choose(&Ring::default(), 1, 3, Some(&bound(125, 16)), &fleet),
        None
    );
}

proptest! {
    #[test]
    fn no_instance_passes_its_capacity_while_another_has_room(
        all in prop::collection::vec((0u64..200, 1u32..5), 1..20),
        hash: u64, factor in 100u32..200, min_capacity in 0u64..20,
    ) {
        let (loads, weights): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let fleet = Fleet { loads, weights };
        let ring = ring(&fleet.weights);
        let bound = bound(factor, min_capacity);
        let choice = choose(&ring, hash, 3, Some(&bound), &fleet).unwrap();
        let room = |host| bound.has_room(&fleet, host);
        let somebody = HostIndex::all(fleet.hosts()).any(room);
        prop_assert_eq!(somebody, room(choice.candidates.first()));
        prop_assert_eq!(choice.reason == Reason::LeastLoaded, !somebody);
    }

    #[test]
    fn candidates_are_distinct_and_the_same_for_the_same_key(
        count in 1usize..20, wanted in 1usize..12, hash: u64,
    ) {
        let fleet = Fleet { loads: vec![0; count], weights: vec![1; count] };
        let ring = ring(&fleet.weights);
        let choice = choose(&ring, hash, wanted, None, &fleet).unwrap();
        let list = choice.candidates.as_slice();
        let mut distinct = list.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), list.len());
        prop_assert!(list.len() <= wanted.min(count).min(CANDIDATES_MAX));
        prop_assert_eq!(Some(choice), choose(&ring, hash, wanted, None, &fleet));
    }
}
