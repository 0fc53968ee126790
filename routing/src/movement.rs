//! Two rings → the share of all keys that has another owner, exactly.

use crate::ring::{HostIndex, Ring};

/// The share of the 2^64 hashes whose owner differs, 0 to 1. `same` says whether a host of the old
/// ring and one of the new ring are the same instance. From or to an empty ring everything moves.
///
/// O(points · log points), for events and not for requests.
pub fn moved_share(old: &Ring, new: &Ring, same: impl Fn(HostIndex, HostIndex) -> bool) -> f64 {
    if old.is_empty() && new.is_empty() {
        return 0.0;
    }
    let (Some(mut old_owner), Some(mut new_owner)) = (old.owner(0), new.owner(0)) else {
        return 1.0;
    };
    // Between two neighbouring points of either ring both owners are constant. An arc is
    // `(previous point, point]`, and belongs to the owner of its end.
    let mut ends: Vec<u64> = old
        .points()
        .chain(new.points())
        .map(|(hash, _)| hash)
        .collect();
    ends.sort_unstable();
    ends.dedup();
    let mut moved: u128 = 0;
    let mut start: u128 = 0;
    for end in ends {
        if let (Some(a), Some(b)) = (old.owner(end), new.owner(end)) {
            (old_owner, new_owner) = (a, b);
        }
        let next = u128::from(end) + 1;
        if !same(old_owner, new_owner) {
            moved += next - start;
        }
        start = next;
    }
    // Past the last point both rings wrap to their first.
    let whole = 1u128 << 64;
    if let (Some(a), Some(b)) = (old.owner(u64::MAX), new.owner(u64::MAX))
        && !same(a, b)
    {
        moved += whole - start;
    }
    share(moved, whole)
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
    use crate::ring::{Host, Shape};
    use std::num::NonZeroU32;

    fn ring(ports: &[u16]) -> Ring {
        let names: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let hosts: Vec<Host<'_>> = names
            .iter()
            .map(|name| Host {
                name,
                weight: NonZeroU32::MIN,
            })
            .collect();
        let virtual_nodes = NonZeroU32::new(160).unwrap();
        Ring::build(
            &hosts,
            Shape::Fixed {
                virtual_nodes,
                max_size: 1 << 20,
            },
        )
        .unwrap()
    }

    #[test]
    fn equal_rings_move_nothing_and_an_empty_one_moves_all() {
        let four = ring(&[1, 2, 3, 4]);
        let empty = ring(&[]);
        assert_eq!(moved_share(&four, &four, |a, b| a == b), 0.0);
        assert_eq!(moved_share(&empty, &empty, |a, b| a == b), 0.0);
        assert_eq!(moved_share(&empty, &four, |a, b| a == b), 1.0);
        assert_eq!(moved_share(&four, &four, |_, _| false), 1.0);
    }

    #[test]
    fn the_share_agrees_with_a_count_over_many_keys() {
        let (four, three) = (ring(&[1, 2, 3, 4]), ring(&[1, 2, 3]));
        let exact = moved_share(&four, &three, |a, b| a == b);
        let keys = 100_000u32;
        let moved = (0..keys)
            .map(|key| crate::hash::xxh64(&key.to_le_bytes()))
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
