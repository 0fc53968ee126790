//! Properties of the ring: Envoy's number of points, minimal movement, and a merge that equals a
//! build.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ENVOY: Shape = Shape::Envoy {
    hash: HashFunction::XxHash64,
    min_size: 1024,
    max_size: POINTS_MAX,
};

fn fixed(virtual_nodes: u32) -> Shape {
    let virtual_nodes = NonZeroU32::new(virtual_nodes).unwrap();
    Shape::Fixed {
        hash: HashFunction::XxHash64,
        virtual_nodes,
        max_size: POINTS_MAX,
    }
}

fn hosts(names: &[(String, u64)]) -> Vec<Host<'_>> {
    names
        .iter()
        .map(|(name, weight)| Host::new(name, NonZeroU64::new(weight * WEIGHT_UNIT).unwrap()))
        .collect()
}

fn names(weights: &[u64]) -> Vec<(String, u64)> {
    (8081..)
        .zip(weights)
        .map(|(port, w)| (format!("127.0.0.1:{port}"), *w))
        .collect()
}

#[test]
fn four_hosts_of_weights_1_2_3_1_give_the_1029_points_that_envoy_makes() {
    let names = names(&[1, 2, 3, 1]);
    assert_eq!(Ring::build(&hosts(&names), ENVOY).unwrap().len(), 1029);
}

#[test]
fn a_ring_of_no_hosts_owns_nothing() {
    for shape in [ENVOY, fixed(160)] {
        let ring = Ring::build(&[], shape).unwrap();
        assert!(ring.is_empty());
        assert_eq!(ring.owner(7), None);
    }
}

#[test]
fn a_fixed_ring_over_its_limit_is_refused_before_it_is_made() {
    let names = names(&[u64::from(u32::MAX), u64::from(u32::MAX)]);
    let error = Ring::build(&hosts(&names), fixed(u32::MAX)).unwrap_err();
    assert!(matches!(
        error,
        RingError::TooLarge {
            max_size: POINTS_MAX,
            ..
        }
    ));
}

#[test]
fn envoys_fill_stays_under_max_size_by_shrinking_shares() {
    let names = names(&[1, 1, 1, 1]);
    let shape = Shape::Envoy {
        hash: HashFunction::XxHash64,
        min_size: 1024,
        max_size: 10,
    };
    assert_eq!(Ring::build(&hosts(&names), shape).unwrap().len(), 10);
}

/// Envoy's own loop, point by point.
fn counts_by_loop(hosts: &[Host<'_>], min_size: u64, max_size: u64) -> Vec<u32> {
    let sum: u64 = hosts.iter().map(|host| host.weight.get()).sum();
    let share = |host: &Host<'_>| host.weight.get() as f64 / sum as f64;
    let least = hosts.iter().map(share).fold(1.0, f64::min);
    let scale = ((least * min_size as f64).ceil() / least).min(max_size as f64);
    let (mut placed, mut target) = (0.0, 0.0);
    let count = |host| {
        target += scale * share(host);
        let mut count = 0;
        while placed < target {
            placed += 1.0;
            count += 1;
        }
        count
    };
    hosts.iter().map(count).collect()
}

fn members() -> impl Strategy<Value = Vec<(String, u64)>> {
    prop::collection::btree_map(1u16..40, 1u64..5, 0..12).prop_map(|map: BTreeMap<u16, u64>| {
        map.into_iter()
            .map(|(port, w)| (format!("10.0.0.1:{port}"), w))
            .collect()
    })
}

fn shapes() -> impl Strategy<Value = Shape> {
    let hash = prop_oneof![Just(HashFunction::XxHash64), Just(HashFunction::Murmur2)];
    let fixed = (hash.clone(), 1u32..50).prop_map(|(hash, nodes)| Shape::Fixed {
        hash,
        virtual_nodes: NonZeroU32::new(nodes).unwrap(),
        max_size: POINTS_MAX,
    });
    let envoy =
        (hash, 1u64..500, 500u64..2_000).prop_map(|(hash, min_size, max_size)| Shape::Envoy {
            hash,
            min_size,
            max_size,
        });
    let maglev = Just(Shape::Maglev {
        table_size: NonZeroU32::new(251).unwrap(),
    });
    prop_oneof![4 => fixed, 4 => envoy, 1 => maglev]
}

proptest! {
    #[test]
    fn the_owner_is_what_an_ordered_map_gives(
        all in members(), shape in shapes(), hashes in prop::collection::vec(any::<u64>(), 32),
    ) {
        let ring = Ring::build(&hosts(&all), shape).unwrap();
        if ring.slots().is_some() {
            return Ok(());
        }
        let tree: BTreeMap<u64, HostIndex> = ring.arcs().collect();
        let edges = tree.keys().flat_map(|at| [at.wrapping_sub(1), *at, at.wrapping_add(1)]);
        for hash in hashes.into_iter().chain(edges) {
            let first = tree.range(hash..).next().or_else(|| tree.iter().next());
            prop_assert_eq!(ring.owner(hash), first.map(|(_, host)| *host));
        }
    }

    #[test]
    fn an_update_is_the_same_as_a_build(
        sets in prop::collection::vec((members(), any::<bool>(), 0usize..3), 1..5),
        shape in shapes(),
    ) {
        let mut before: Vec<(String, u64)> = Vec::new();
        let mut ring = Ring::build(&[], shape).unwrap();
        for (mut after, reversed, twice) in sets {
            // Some names occur twice, so that whole hashes are equal.
            after.extend(after.clone().into_iter().take(twice));
            if reversed {
                after.reverse();
            }
            ring = ring.update(&hosts(&before), &hosts(&after), shape).unwrap();
            prop_assert_eq!(&ring, &Ring::build(&hosts(&after), shape).unwrap());
            before = after;
        }
    }

    #[test]
    fn the_number_of_points_is_that_of_envoys_loop(
        weights in prop::collection::vec(1u64..1_000, 1..60), min in 1u64..3_000, more in 0u64..3_000,
    ) {
        let names = names(&weights);
        let hosts = hosts(&names);
        let max = min + more;
        prop_assert_eq!(counts::envoy(&hosts, min, max), counts_by_loop(&hosts, min, max));
    }

    #[test]
    fn with_fixed_fill_removing_an_instance_moves_only_its_keys(
        all in members(), gone: prop::sample::Index, keys in prop::collection::vec(any::<u64>(), 64),
    ) {
        if all.is_empty() {
            return Ok(());
        }
        let mut rest = all.clone();
        let (gone_name, _) = rest.remove(gone.index(all.len()));
        let (before, after) = (hosts(&all), hosts(&rest));
        let old = Ring::build(&before, fixed(40)).unwrap();
        let new = old.update(&before, &after, fixed(40)).unwrap();
        for key in keys {
            let owner = old.owner(key).map(|host| before[host.get()].name).unwrap();
            if owner != gone_name {
                prop_assert_eq!(new.owner(key).map(|host| after[host.get()].name), Some(owner));
            }
        }
    }
}
