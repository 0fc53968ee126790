//! Properties of the bounded choice.

use std::cell::RefCell;
use std::num::NonZeroU64;

use super::*;
use crate::hash::HashFunction;
use crate::ring::{Host, Shape};
use proptest::prelude::*;

/// Loads that the chooser may move.
struct Fleet {
    loads: RefCell<Vec<u64>>,
    total: u64,
}

impl Fleet {
    fn of(loads: &[u64]) -> Self {
        Self {
            loads: RefCell::new(loads.to_vec()),
            total: loads.iter().sum(),
        }
    }

    fn now(&self) -> Vec<u64> {
        self.loads.borrow().clone()
    }
}

impl Loads for Fleet {
    fn take(&self, host: usize) {
        self.loads.borrow_mut()[host] += 1;
    }
    fn give_back(&self, host: usize) {
        self.loads.borrow_mut()[host] -= 1;
    }
    fn in_flight(&self, host: usize) -> u64 {
        self.loads.borrow()[host]
    }
    fn estimate(&self, host: usize) -> u64 {
        self.in_flight(host)
    }
    fn total(&self) -> u64 {
        self.total
    }
}

fn ring(weights: &[u64]) -> Ring {
    let names: Vec<String> = (0..weights.len())
        .map(|n| format!("10.0.0.1:{n}"))
        .collect();
    let hosts: Vec<Host<'_>> = names
        .iter()
        .zip(weights)
        .map(|(name, weight)| Host::new(name, NonZeroU64::new(*weight).unwrap()))
        .collect();
    let shape = Shape::Envoy {
        hash: HashFunction::XxHash64,
        min_size: 256,
        max_size: 1 << 20,
    };
    Ring::build(&hosts, shape).unwrap()
}

fn bound(balance_factor: u32, min_capacity: u64) -> Bound {
    Bound {
        balance_factor: balance_factor.try_into().ok(),
        min_capacity,
        max_in_flight: None,
    }
}

fn choose_among(loads: &[u64], weights: &[u64], hash: u64, bound: &Bound) -> (Choice, Vec<u64>) {
    let fleet = Fleet::of(loads);
    let weights: Weights = weights.iter().copied().collect();
    let ring = ring(&weights.each);
    let choice = choose(&ring, hash, 3, bound, &weights, &fleet).unwrap();
    (choice, fleet.now())
}

#[test]
fn a_key_stays_with_its_owner_while_the_owner_is_under_min_capacity() {
    let ring = ring(&[1; 4]);
    for hash in (0..100).map(mix) {
        let (choice, _) = choose_among(&[15; 4], &[1; 4], hash, &bound(100, 16));
        assert_eq!(choice.reason, Reason::Primary);
        assert_eq!(Some(choice.candidates.first()), ring.owner(hash));
    }
}

#[test]
fn a_full_owners_keys_spread_over_all_others() {
    let mut taken = [0; 4];
    for hash in (0..10_000).map(mix) {
        let (choice, _) = choose_among(&[100, 0, 0, 0], &[1; 4], hash, &bound(125, 1));
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
    // A factor of 1 % leaves no room at all; the second carries less for its weight.
    for hash in (0..100).map(mix) {
        let (choice, after) = choose_among(&[40, 100], &[1, 3], hash, &bound(1, 0));
        assert_eq!(choice.reason, Reason::LeastLoaded);
        assert_eq!(after, [40, 101]);
    }
}

#[test]
fn where_all_are_at_their_hard_cap_nobody_takes_it() {
    let cap = Bound {
        max_in_flight: NonZeroU64::new(10),
        ..Bound::default()
    };
    let (choice, after) = choose_among(&[10, 10], &[1, 1], 7, &cap);
    assert_eq!((choice.reason, after), (Reason::Full, vec![10, 10]));
    let (choice, after) = choose_among(&[10, 9], &[1, 1], 7, &cap);
    assert_ne!(choice.reason, Reason::Full);
    assert_eq!(after, [10, 10]);
}

#[test]
fn one_free_place_among_a_thousand_full_instances_is_found() {
    let cap = Bound {
        max_in_flight: NonZeroU64::new(5),
        ..bound(125, 1)
    };
    let mut loads = vec![5; 1_000];
    loads[617] = 4;
    for hash in (0..20).map(mix) {
        let (choice, after) = choose_among(&loads, &[1; 1_000], hash, &cap);
        assert_eq!((choice.candidates.first().get(), after[617]), (617, 5));
    }
}

#[test]
fn a_full_owner_is_no_candidate_for_a_retry_while_others_have_room() {
    for hash in (0..200).map(mix) {
        let (choice, _) = choose_among(&[100, 0, 0, 0], &[1; 4], hash, &bound(125, 1));
        let list = choice.candidates.as_slice();
        if choice.reason == Reason::Overflow {
            assert!(list.iter().all(|host| host.get() != 0), "{list:?}");
        }
    }
}

#[test]
fn numbers_that_nobody_has_make_a_great_capacity_and_no_overflow() {
    let greatest = bound(u32::MAX, 0);
    assert_eq!(greatest.capacity(u64::MAX, (u64::MAX, 1)), u64::MAX);
    assert!(greatest.admits(u64::MAX, || u64::MAX, (u64::MAX, 1)));
    assert!(!greatest.admits(u64::MAX, || 0, (1, u64::MAX)));
}

/// The load of this process, and a snapshot of the rest of the fleet that may say anything.
struct Pictured {
    own: u64,
    share: Share,
    divides: bool,
}

impl Loads for Pictured {
    fn take(&self, _: usize) {}
    fn give_back(&self, _: usize) {}
    fn in_flight(&self, host: usize) -> u64 {
        self.estimate(host).saturating_add(1)
    }
    fn estimate(&self, _: usize) -> u64 {
        self.own.saturating_add(self.share.rest)
    }
    fn total(&self) -> u64 {
        self.own.saturating_add(self.share.rest).saturating_mul(4)
    }
    fn share(&self, _: usize) -> Option<Share> {
        self.divides.then_some(self.share)
    }
    fn of_others(&self, _: usize) -> u64 {
        self.share.rest
    }
    fn processes(&self) -> u64 {
        self.share.others.saturating_add(1)
    }
}

proptest! {
    #[test]
    fn whatever_a_picture_shows_a_process_may_use_its_fair_part_of_the_cap(
        own in 0u64..20, rest: u64, claimed: u64, before: u64, rank: u64, others: u64,
        cap in 1u64..100, factor in 100u32..200, divides: bool, hash: u64,
    ) {
        let share = Share { own: claimed, rest: rest / 4, before, rank, others };
        let bound = Bound { max_in_flight: NonZeroU64::new(cap), ..bound(factor, 1) };
        let weights: Weights = [1; 4].into_iter().collect();
        let loads = Pictured { own, share, divides };
        let choice = choose(&ring(&[1; 4]), hash, 3, &bound, &weights, &loads).unwrap();
        let fair_part = (cap / others.saturating_add(1)).max(1);
        if own < fair_part {
            prop_assert_ne!(choice.reason, Reason::Full);
        }
        if own >= cap {
            prop_assert_eq!(choice.reason, Reason::Full);
        }
    }

    #[test]
    fn admitting_is_having_no_more_than_the_capacity(
        in_flight in 1u64.., total: u64, factor in 1u32.., least: u64,
        weight in 0u64..1 << 50, more in 0u64..1 << 50,
    ) {
        let (weights, bound) = (weight + more, bound(factor, least));
        let capacity = bound.capacity(total, (weight, weights));
        let admits = bound.admits(in_flight, || total, (weight, weights));
        prop_assert_eq!(admits, in_flight <= capacity);
    }

    #[test]
    fn no_instance_passes_its_capacity_while_another_has_room(
        all in prop::collection::vec((0u64..200, 1u64..5), 1..24),
        hash: u64, factor in 100u32..200, min_capacity in 0u64..20, cap in 0u64..250,
    ) {
        let (loads, weights): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let bound = Bound { max_in_flight: NonZeroU64::new(cap), ..bound(factor, min_capacity) };
        let (choice, after) = choose_among(&loads, &weights, hash, &bound);
        let (total, sum) = (loads.iter().sum(), weights.iter().sum());
        let room = |host: usize| loads[host] < bound.capacity(total, (weights[host], sum));
        let somebody = (0..loads.len()).any(room);
        let first = choice.candidates.first().get();
        match choice.reason {
            Reason::Primary | Reason::Overflow => prop_assert!(room(first)),
            Reason::LeastLoaded => prop_assert!(!somebody),
            Reason::Full => prop_assert!(!somebody && cap > 0 && loads.iter().all(|l| *l >= cap)),
            Reason::Ejected => prop_assert!(false, "health is not known here"),
        }
        // Exactly one place is taken, on the first candidate, or none at all.
        let mut expected = loads;
        if choice.reason != Reason::Full {
            expected[first] += 1;
        }
        prop_assert_eq!(after, expected);
    }

    #[test]
    fn no_candidate_after_the_first_is_at_the_cap(
        loads in prop::collection::vec(0u64..6, 1..20), hash: u64, cap in 1u64..6,
    ) {
        let bound = Bound { max_in_flight: NonZeroU64::new(cap), ..Bound::default() };
        let (choice, _) = choose_among(&loads, &vec![1; loads.len()], hash, &bound);
        let others = choice.candidates.as_slice().iter().skip(1);
        for host in others {
            prop_assert!(loads[host.get()] < cap, "{choice:?} of {loads:?}");
        }
    }

    #[test]
    fn candidates_are_distinct_and_the_same_for_the_same_key(
        count in 1usize..20, wanted in 1usize..12, hash: u64,
    ) {
        let weights: Weights = vec![1; count].into_iter().collect();
        let ring = ring(&weights.each);
        let off = Bound::default();
        let once = || choose(&ring, hash, wanted, &off, &weights, &Fleet::of(&vec![0; count]));
        let choice = once().unwrap();
        let list = choice.candidates.as_slice();
        let mut distinct = list.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), list.len());
        prop_assert!(list.len() <= wanted.min(count).min(CANDIDATES_MAX));
        prop_assert_eq!(Some(choice), once());
    }
}
