//! Two rings → the exact share of all keys whose owner changed.

use crate::ring::{HostIndex, Ring};

/// The share of the 2^64 hashes whose owner differs, 0 to 1. `same` says whether a host of the old
/// ring and a host of the new ring are the same instance. From or to an empty ring everything
/// moves.
///
/// O(points), for events and not for requests.
pub fn moved_share(old: &Ring, new: &Ring, same: impl Fn(HostIndex, HostIndex) -> bool) -> f64 {
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

/// Between two neighbouring points of either ring both owners are constant. An arc is
/// `(previous point, point]`, and belongs to the owner of its end.
fn moved_on_rings(old: &Ring, new: &Ring, same: impl Fn(HostIndex, HostIndex) -> bool) -> f64 {
    let (mut old_arcs, mut new_arcs) = (old.arcs().peekable(), new.arcs().peekable());
    let (Some(old_first), Some(new_first)) = (old.owner(0), new.owner(0)) else {
        return 1.0;
    };
    let whole = 1u128 << 64;
    let (mut moved, mut start) = (0u128, 0u128);
    while start < whole {
        // After its last point a ring wraps to its first.
        let next = |arc: Option<&(u64, HostIndex)>, first| {
            arc.map_or((u64::MAX, first), |(end, owner)| (*end, *owner))
        };
        let (old_end, old_owner) = next(old_arcs.peek(), old_first);
        let (new_end, new_owner) = next(new_arcs.peek(), new_first);
        let end = old_end.min(new_end);
        let past = u128::from(end) + 1;
        if past > start && !same(old_owner, new_owner) {
            moved += past - start;
        }
        start = start.max(past);
        while old_arcs.next_if(|(point, _)| *point <= end).is_some() {}
        while new_arcs.next_if(|(point, _)| *point <= end).is_some() {}
    }
    share(moved, whole)
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
