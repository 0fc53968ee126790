//! A ring after any changes, against a plain sorted list of hashes with their hosts.

use std::num::{NonZeroU32, NonZeroU64};

use proptest::prelude::*;

use super::*;
use crate::movement::moved_share;
use crate::ring::{POINTS_MAX, Ring, Shape, WEIGHT_UNIT, counts};

type Named = (String, u64);

fn hosts(names: &[Named]) -> Vec<Host<'_>> {
    names
        .iter()
        .map(|(name, weight)| Host::new(name, NonZeroU64::new(weight * WEIGHT_UNIT).unwrap()))
        .collect()
}

fn named(numbers: impl IntoIterator<Item = usize>) -> Vec<Named> {
    let name = |number| (format!("10.0.0.{number}:80"), 1);
    numbers.into_iter().map(name).collect()
}

/// The points of the hosts, in order of hash, then of host.
fn list(hosts: &[Host<'_>], shape: Shape) -> Vec<(u64, HostIndex)> {
    let (hash, counts) = match shape {
        Shape::Envoy {
            hash,
            min_size,
            max_size,
        } => (hash, counts::envoy(hosts, min_size, max_size)),
        Shape::Fixed {
            hash,
            virtual_nodes,
            max_size,
        } => (hash, counts::fixed(hosts, virtual_nodes, max_size).unwrap()),
        Shape::Maglev { .. } => unreachable!("no ring of points"),
    };
    let points = hosts
        .iter()
        .zip(counts)
        .enumerate()
        .flat_map(|(place, (host, count))| {
            let hash = move |number| hash.hash(format!("{}_{number}", host.name).as_bytes());
            (0..count).map(move |number| (hash(number), HostIndex::of_place(place)))
        });
    let mut points: Vec<(u64, HostIndex)> = points.collect();
    points.sort_unstable();
    points
}

fn owner(list: &[(u64, HostIndex)], hash: u64) -> Option<HostIndex> {
    let first = list.iter().find(|(point, _)| *point >= hash);
    first.or_else(|| list.first()).map(|(_, host)| *host)
}

/// The share of hashes whose owner in one list is not the same in the other.
fn moved(
    old: &[(u64, HostIndex)],
    new: &[(u64, HostIndex)],
    same: impl Fn(HostIndex, HostIndex) -> bool,
) -> f64 {
    if old.is_empty() || new.is_empty() {
        return if old.len() == new.len() { 0.0 } else { 1.0 };
    }
    let mut ends: Vec<u64> = old.iter().chain(new).map(|(hash, _)| *hash).collect();
    ends.push(u64::MAX);
    ends.sort_unstable();
    let (mut moved, mut start) = (0u128, 0u128);
    for end in ends {
        let past = u128::from(end) + 1;
        if !same(owner(old, end).unwrap(), owner(new, end).unwrap()) {
            moved += past - start;
        }
        start = past;
    }
    moved as f64 / (1u128 << 64) as f64
}

fn shapes() -> impl Strategy<Value = Shape> {
    let hash = prop_oneof![Just(HashFunction::XxHash64), Just(HashFunction::Murmur2)];
    let fixed = (hash.clone(), 1u32..40).prop_map(|(hash, nodes)| Shape::Fixed {
        hash,
        virtual_nodes: NonZeroU32::new(nodes).unwrap(),
        max_size: POINTS_MAX,
    });
    let sizes = (hash, 1u64..800, 500u64..2_000);
    let envoy = sizes.prop_map(|(hash, min_size, max_size)| Shape::Envoy {
        hash,
        min_size,
        max_size,
    });
    prop_oneof![fixed, envoy]
}

/// What happens to a list of hosts.
#[derive(Debug, Clone)]
enum Change {
    Add(Vec<(u8, u64)>),
    Remove(prop::sample::Index),
    Replace(prop::sample::Index, u8),
    Weigh(prop::sample::Index, u64),
    Swap(prop::sample::Index, prop::sample::Index),
    Rotate(prop::sample::Index),
    Keep(prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    // So few names that some hosts have the same one.
    let name = || 0u8..60;
    prop_oneof![
        2 => prop::collection::vec((name(), 1u64..4), 1..20).prop_map(Change::Add),
        3 => at().prop_map(Change::Remove),
        2 => (at(), name()).prop_map(|(at, name)| Change::Replace(at, name)),
        2 => (at(), 1u64..4).prop_map(|(at, weight)| Change::Weigh(at, weight)),
        1 => (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
        1 => at().prop_map(Change::Rotate),
        1 => at().prop_map(Change::Keep),
    ]
}

impl Change {
    fn apply(self, names: &mut Vec<Named>) {
        let name = |number: u8| format!("10.0.0.{number}:80");
        let count = names.len();
        match self {
            Self::Add(added) => {
                names.extend(
                    added
                        .into_iter()
                        .map(|(number, weight)| (name(number), weight)),
                );
            }
            _ if count == 0 => {}
            Self::Remove(at) => drop(names.remove(at.index(count))),
            Self::Replace(at, number) => names[at.index(count)].0 = name(number),
            Self::Weigh(at, weight) => names[at.index(count)].1 = weight,
            Self::Swap(a, b) => names.swap(a.index(count), b.index(count)),
            Self::Rotate(at) => names.rotate_left(at.index(count)),
            Self::Keep(at) => names.truncate(at.index(count)),
        }
    }
}

proptest! {
    #[test]
    fn after_any_changes_a_ring_is_the_sorted_list_of_its_points(
        changes in prop::collection::vec(changes(), 1..12),
        shape in shapes(),
        hashes in prop::collection::vec(any::<u64>(), 16),
        moves in any::<bool>(),
    ) {
        let mut names: Vec<Named> = Vec::new();
        let mut ring = Ring::default();
        for change in changes {
            let before = names.clone();
            change.apply(&mut names);
            let (old_hosts, new_hosts) = (hosts(&before), hosts(&names));
            let next = ring.update(&old_hosts, &new_hosts, shape).unwrap();
            let points = list(&new_hosts, shape);
            let found: Vec<(u64, HostIndex)> = next.arcs().collect();
            prop_assert_eq!(&found, &points);
            prop_assert_eq!(next.len(), points.len());
            prop_assert_eq!(&next, &Ring::build(&new_hosts, shape).unwrap());
            let edges = points.iter().map(|(hash, _)| *hash);
            let edges = edges.flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)]);
            for hash in hashes.iter().copied().chain(edges.step_by(7)) {
                prop_assert_eq!(next.owner(hash), owner(&points, hash));
            }
            // An instance may be at another address although its name is the same.
            let same = |old: HostIndex, new: HostIndex| {
                let name = &before[old.get()].0;
                *name == names[new.get()].0 && !(moves && name.ends_with("1:80"))
            };
            let share = moved_share(&ring, &next, same);
            let expected = moved(&list(&old_hosts, shape), &points, same);
            prop_assert!((share - expected).abs() < 1e-12, "{share}, expected {expected}");
            ring = next;
        }
    }
}

/// A ring of these hosts with `each` points each, made from another.
fn updated(old: &Points, before: &[Named], after: &[Named], each: u32) -> Points {
    let counts = vec![each; after.len()];
    old.update(
        &hosts(before),
        &hosts(after),
        &counts,
        HashFunction::XxHash64,
    )
}

fn built(names: &[Named], each: u32) -> Points {
    updated(&Points::default(), &[], names, each)
}

fn copied(old: &Points, new: &Points) -> usize {
    assert_eq!(old.bits, new.bits);
    let pairs = old.chunks.iter().zip(&new.chunks);
    pairs.filter(|(a, b)| !a.is(b)).count()
}

#[test]
fn a_change_copies_only_chunks_that_gain_or_lose_a_point() {
    let all = named(0..200);
    let ring = built(&all, 40);
    assert_eq!(ring.chunks.len(), 256);
    let fewer = [&all[..70], &all[71..]].concat();
    let smaller = updated(&ring, &all, &fewer, 40);
    assert!((1..=40).contains(&copied(&ring, &smaller)));
    let other = [&all[..70], &named([500]), &all[71..]].concat();
    let replaced = updated(&ring, &all, &other, 40);
    assert!((1..=80).contains(&copied(&ring, &replaced)));
    let mut reversed = all.clone();
    reversed.reverse();
    assert_eq!(copied(&ring, &updated(&ring, &all, &reversed, 40)), 0);
}

#[test]
fn an_instance_that_comes_and_goes_does_not_divide_the_ring_each_time() {
    let all = named(0..64);
    let mut divisions = Vec::new();
    let (mut ring, mut before) = (Points::default(), Vec::new());
    for count in (1..64)
        .chain([63, 62, 63, 62, 33, 32, 33, 32])
        .chain((1..32).rev())
    {
        let after = all[..count].to_vec();
        ring = updated(&ring, &before, &after, 64);
        before = after;
        if divisions.last() != Some(&ring.bits) {
            divisions.push(ring.bits);
        }
    }
    assert_eq!(divisions, [1, 2, 3, 4, 5, 6, 7, 6, 5, 4, 2]);
}

#[test]
fn slots_of_hosts_that_are_gone_are_used_again() {
    let (mut ring, mut before) = (Points::default(), Vec::new());
    for first in 0..100 {
        let after = named(first..first + 10);
        ring = updated(&ring, &before, &after, 4);
        before = after;
    }
    let greatest = ring.slots.hosts().iter().map(|slot| slot.number).max();
    assert!(greatest <= Some(11), "{greatest:?}");
}

#[test]
fn hundreds_of_equal_hashes_belong_to_the_first_of_their_hosts() {
    let mut names = named(0..3);
    for number in 0..900 {
        names.push((names[number % 3].0.clone(), 1));
    }
    let ring = built(&names, 2);
    assert!(ring.chunks.iter().any(|chunk| chunk.points().len() > 256));
    for (hash, _) in ring.iter() {
        assert!(ring.owner(hash).unwrap().get() < 3);
        assert!(ring.owner(hash.wrapping_add(1)).unwrap().get() < 3);
    }
    let rest = names.split_off(1);
    let without_first = updated(&ring, &[names, rest.clone()].concat(), &rest, 2);
    assert_eq!(without_first, built(&rest, 2));
}
