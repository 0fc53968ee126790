//! Eligible instances → an ordered map of virtual nodes → the owner of a hash.
//!
//! The map is a sorted array: a lookup is a binary search, and nothing in it changes once built.
//! A changed membership makes another ring, which is swapped in whole.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use crate::hash::xxh64;

/// The most virtual nodes that any ring may have, whatever the settings: 128 MiB of them.
pub const POINTS_MAX: u64 = 8_388_608;

/// An instance as the ring sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    /// What its virtual nodes are hashed from: `ip:port`.
    pub name: &'a str,
    /// Its share of the ring, relative to the others.
    pub weight: NonZeroU32,
}

/// The place of an instance in the slice that the ring was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIndex(u32);

impl HostIndex {
    /// The indexes of the first `count` hosts.
    pub(crate) fn all(count: usize) -> impl Iterator<Item = Self> {
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(Self)
    }

    /// The index into that slice.
    pub fn get(self) -> usize {
        // A u32 fits a usize on every target of this workspace (wasm32 and 64-bit).
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// How instances become virtual nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As Envoy's `RING_HASH` fills its ring: shares of a ring of at least `min_size` points, so
    /// that an instance's number of points depends on the others.
    Envoy {
        /// `minimum_ring_size`.
        min_size: u64,
        /// `maximum_ring_size`.
        max_size: u64,
    },
    /// `virtual_nodes × weight` points for each instance, whatever the others are: only the keys
    /// of an instance that comes or goes move.
    Fixed {
        /// Points of an instance of weight 1.
        virtual_nodes: NonZeroU32,
        /// A ring that would be larger is refused.
        max_size: u64,
    },
}

/// Why no ring could be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Weights and virtual nodes multiply to more points than allowed.
    #[error("the ring would have {points} virtual nodes, more than max_size {max_size}")]
    TooLarge {
        /// What it would have had.
        points: u64,
        /// What is allowed.
        max_size: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u64,
    host: u32,
}

/// The ring. Empty if it was built from no hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ring {
    points: Box<[Point]>,
}

impl Ring {
    /// Builds the ring of these hosts. Their order matters with [`Shape::Envoy`], as in Envoy: it
    /// decides who gets the points that rounding leaves over.
    ///
    /// # Errors
    /// [`RingError::TooLarge`] with [`Shape::Fixed`]. Envoy's shape shrinks shares instead.
    pub fn build(hosts: &[Host<'_>], shape: Shape) -> Result<Self, RingError> {
        let mut points = Vec::new();
        match shape {
            Shape::Envoy { min_size, max_size } => {
                envoy_points(hosts, min_size, max_size, &mut points)
            }
            Shape::Fixed {
                virtual_nodes,
                max_size,
            } => {
                let weights: u64 = hosts.iter().map(|host| u64::from(host.weight.get())).sum();
                let total = weights.saturating_mul(u64::from(virtual_nodes.get()));
                let max_size = max_size.min(POINTS_MAX);
                if total > max_size {
                    return Err(RingError::TooLarge {
                        points: total,
                        max_size,
                    });
                }
                for (index, host) in (0u32..).zip(hosts) {
                    let count = u64::from(virtual_nodes.get()) * u64::from(host.weight.get());
                    push_points(host.name, index, 0..count, &mut points);
                }
            }
        }
        // Equal hashes are ordered by host, so that equal inputs give equal rings.
        points.sort_unstable();
        Ok(Self {
            points: points.into_boxed_slice(),
        })
    }

    /// The owner of a hash: the host of the first point at or after it, or of the first point of
    /// all. `None` if the ring is empty.
    pub fn owner(&self, hash: u64) -> Option<HostIndex> {
        let at = self.points.partition_point(|point| point.hash < hash);
        self.points
            .get(at)
            .or_else(|| self.points.first())
            .map(|point| HostIndex(point.host))
    }

    /// How many virtual nodes there are.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The points in order of hash.
    pub(crate) fn points(&self) -> impl Iterator<Item = (u64, HostIndex)> + '_ {
        self.points
            .iter()
            .map(|point| (point.hash, HostIndex(point.host)))
    }
}

/// `RingHashLoadBalancer::Ring` of Envoy 1.40 (`ring_hash_lb.cc`), with its arithmetic in doubles,
/// since its rounding is what decides the number of points of each host.
fn envoy_points(hosts: &[Host<'_>], min_size: u64, max_size: u64, points: &mut Vec<Point>) {
    let sum: u64 = hosts.iter().map(|host| u64::from(host.weight.get())).sum();
    let share = |host: &Host<'_>| f64::from(host.weight.get()) / as_f64(sum);
    let Some(least) = hosts.iter().map(share).reduce(f64::min) else {
        return;
    };
    let scale = ((least * as_f64(min_size)).ceil() / least).min(as_f64(max_size.min(POINTS_MAX)));
    let (mut placed, mut target) = (0.0, 0.0);
    for (index, host) in (0u32..).zip(hosts) {
        target += scale * share(host);
        let mut number = 0;
        while placed < target {
            push_points(host.name, index, number..number + 1, points);
            number += 1;
            placed += 1.0;
        }
    }
}

/// Exact below 2^53, which every ring size and every sum of weights in practice is.
#[expect(
    clippy::cast_precision_loss,
    reason = "Envoy computes in doubles, rounding included"
)]
fn as_f64(value: u64) -> f64 {
    value as f64
}

/// The points of one host: the hash of `<name>_<number>`.
fn push_points(name: &str, host: u32, numbers: std::ops::Range<u64>, points: &mut Vec<Point>) {
    let mut text = String::with_capacity(name.len() + 21);
    text.push_str(name);
    text.push('_');
    let prefix = text.len();
    for number in numbers {
        text.truncate(prefix);
        // Writing to a string cannot fail.
        if write!(text, "{number}").is_ok() {
            points.push(Point {
                hash: xxh64(text.as_bytes()),
                host,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub(crate) const ENVOY: Shape = Shape::Envoy {
        min_size: 1024,
        max_size: POINTS_MAX,
    };

    fn fixed(virtual_nodes: u32) -> Shape {
        let virtual_nodes = NonZeroU32::new(virtual_nodes).unwrap();
        Shape::Fixed {
            virtual_nodes,
            max_size: POINTS_MAX,
        }
    }

    fn hosts(names: &[(String, u32)]) -> Vec<Host<'_>> {
        names
            .iter()
            .map(|(name, weight)| Host {
                name,
                weight: NonZeroU32::new(*weight).unwrap(),
            })
            .collect()
    }

    fn names(weights: &[u32]) -> Vec<(String, u32)> {
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
        let names = names(&[u32::MAX, u32::MAX]);
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
            min_size: 1024,
            max_size: 10,
        };
        assert_eq!(Ring::build(&hosts(&names), shape).unwrap().len(), 10);
    }

    fn members() -> impl Strategy<Value = Vec<(String, u32)>> {
        prop::collection::btree_map(1u16.., 1u32..5, 1..12).prop_map(|map: BTreeMap<u16, u32>| {
            map.into_iter()
                .map(|(port, w)| (format!("10.0.0.1:{port}"), w))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_owner_is_what_an_ordered_map_gives(all in members(), hash: u64) {
            let list = hosts(&all);
            let ring = Ring::build(&list, ENVOY).unwrap();
            let tree: BTreeMap<u64, HostIndex> = ring.points().collect();
            let first = tree.range(hash..).next().or_else(|| tree.iter().next());
            prop_assert_eq!(ring.owner(hash), first.map(|(_, host)| *host));
        }

        #[test]
        fn with_fixed_fill_removing_an_instance_moves_only_its_keys(
            all in members(), gone: prop::sample::Index, keys in prop::collection::vec(any::<u64>(), 64),
        ) {
            let gone = gone.index(all.len());
            let mut rest = all.clone();
            let (gone_name, _) = rest.remove(gone);
            let (before, after) = (hosts(&all), hosts(&rest));
            let old = Ring::build(&before, fixed(40)).unwrap();
            let new = Ring::build(&after, fixed(40)).unwrap();
            for key in keys {
                let owner = old.owner(key).map(|host| before[host.get()].name).unwrap();
                if owner != gone_name {
                    prop_assert_eq!(new.owner(key).map(|host| after[host.get()].name), Some(owner));
                }
            }
        }
    }
}
