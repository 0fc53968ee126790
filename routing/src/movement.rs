//! Two rings → the exact share of all keys whose owner changed.

use crate::ring::{Comparison, HostIndex, Ring, Stretch};

/// The share of the 2^64 hashes whose owner differs, 0 to 1. `same` says whether a host of the old
/// ring and a host of the new ring are the same instance. From or to an empty ring everything
/// moves.
///
/// For events and not for requests: O(points), but of the parts that the rings share only O(1) each.
pub fn moved_share(old: &Ring, new: &Ring, same: impl Fn(HostIndex, HostIndex) -> bool) -> f64 {
    let mut same = remembered(same);
    match (old.is_empty(), new.is_empty()) {
        (true, true) => return 0.0,
        (true, false) | (false, true) => return 1.0,
        (false, false) => {}
    }
    match (old.slots(), new.slots()) {
        (Some(old), Some(new)) if old.len() == new.len() => {
            let pairs = old.iter().zip(new);
            let moved = pairs.filter(|(a, b)| !same(HostIndex::new(**a), HostIndex::new(**b)));
            share(wide(moved.count()), wide(old.len()))
        }
        (None, None) => moved_on_rings(old, new, same),
        // The algorithm or the size of its table differs.
        _ => 1.0,
    }
}

/// Two rings have few pairs of owners, and `same` may compare names: what it said last of each host
/// of the old ring is remembered.
fn remembered(
    same: impl Fn(HostIndex, HostIndex) -> bool,
) -> impl FnMut(HostIndex, HostIndex) -> bool {
    let mut known: Vec<[Option<HostIndex>; 2]> = Vec::new();
    move |old, new| {
        if known.len() <= old.get() {
            known.resize(old.get() + 1, [None; 2]);
        }
        let Some([is, is_not]) = known.get_mut(old.get()) else {
            return same(old, new);
        };
        if *is == Some(new) || *is_not == Some(new) {
            return *is == Some(new);
        }
        let said = same(old, new);
        *(if said { is } else { is_not }) = Some(new);
        said
    }
}

fn moved_on_rings(
    old: &Ring,
    new: &Ring,
    mut same: impl FnMut(HostIndex, HostIndex) -> bool,
) -> f64 {
    let (Some(old), Some(new)) = (old.points(), new.points()) else {
        return 1.0;
    };
    let comparison = Comparison::new(old, new, &mut same);
    let stretches = comparison.stretches();
    let moved = stretches.map(|stretch| moved_in(stretch, &mut same));
    share(moved.sum(), 1 << 64)
}

/// How many hashes have another owner. Between two neighbouring points of either ring both owners
/// are constant. An arc is `(previous point, point]`, and belongs to the owner of its end.
fn moved_in(
    stretch: Stretch<
        impl Iterator<Item = (u64, HostIndex)>,
        impl Iterator<Item = (u64, HostIndex)>,
    >,
    mut same: impl FnMut(HostIndex, HostIndex) -> bool,
) -> u128 {
    let (mut old, mut new) = (stretch.old.peekable(), stretch.new.peekable());
    let (mut moved, mut start) = (0, stretch.start);
    while let (Some((old_end, old_owner)), Some((new_end, new_owner))) = (old.peek(), new.peek()) {
        let end = *old_end.min(new_end);
        if end >= start && !same(*old_owner, *new_owner) {
            moved += u128::from(end - start) + 1;
        }
        let Some(next) = end.checked_add(1) else {
            break;
        };
        start = start.max(next);
        while old.next_if(|(point, _)| *point <= end).is_some() {}
        while new.next_if(|(point, _)| *point <= end).is_some() {}
    }
    moved
}

fn wide(count: usize) -> u128 {
    u128::try_from(count).unwrap_or(u128::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share for people; 53 bits are plenty"
)]
fn share(part: u128, whole: u128) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{HashFunction, xxh64};
    use crate::ring::{Host, Shape, WEIGHT_UNIT};
    use std::num::{NonZeroU32, NonZeroU64};

    const RINGS: Shape = Shape::Fixed {
        hash: HashFunction::XxHash64,
        virtual_nodes: NonZeroU32::new(160).unwrap(),
        max_size: 1 << 20,
    };
    const TABLES: Shape = Shape::Maglev {
        table_size: NonZeroU32::new(65_537).unwrap(),
    };

    fn ring(ports: &[u16], shape: Shape) -> Ring {
        let names: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let hosts: Vec<Host<'_>> = names
            .iter()
            .map(|name| Host::new(name, NonZeroU64::new(WEIGHT_UNIT).unwrap()))
            .collect();
        Ring::build(&hosts, shape).unwrap()
    }

    #[test]
    fn equal_rings_move_nothing_and_an_empty_one_moves_all() {
        for shape in [RINGS, TABLES] {
            let four = ring(&[1, 2, 3, 4], shape);
            let empty = ring(&[], shape);
            assert_eq!(moved_share(&four, &four, |a, b| a == b), 0.0);
            assert_eq!(moved_share(&empty, &empty, |a, b| a == b), 0.0);
            assert_eq!(moved_share(&empty, &four, |a, b| a == b), 1.0);
            assert_eq!(moved_share(&four, &four, |_, _| false), 1.0);
        }
        let (four, table) = (ring(&[1], RINGS), ring(&[1], TABLES));
        assert_eq!(moved_share(&four, &table, |a, b| a == b), 1.0);
    }

    #[test]
    fn the_share_agrees_with_a_count_over_many_keys() {
        for shape in [RINGS, TABLES] {
            let (four, three) = (ring(&[1, 2, 3, 4], shape), ring(&[1, 2, 3], shape));
            let exact = moved_share(&four, &three, |a, b| a == b);
            let keys = 100_000u32;
            let moved = (0..keys)
                .map(|key| xxh64(&key.to_le_bytes()))
                .filter(|hash| four.owner(*hash) != three.owner(*hash))
                .count();
            let counted = moved as f64 / f64::from(keys);
            assert!(
                (exact - counted).abs() < 0.01,
                "exact {exact}, counted {counted}"
            );
            assert!((0.15..0.35).contains(&exact), "about a quarter: {exact}");
        }
    }
}
