//! Eligible instances → an ordered map of virtual nodes → the owner of a hash.
//!
//! A ring is an immutable value. A change of membership makes another ring, which shares with the
//! first all chunks in which no point comes or goes, and the new ring is swapped in whole.

mod counts;
mod points;

use std::num::{NonZeroU32, NonZeroU64};

use crate::hash::HashFunction;
use crate::maglev::Maglev;
pub(crate) use counts::as_f64;
use points::Points;
pub(crate) use points::{Comparison, Stretch};

/// The most virtual nodes that any ring may have, whatever the settings: 96 MiB of them.
pub const POINTS_MAX: u64 = 8_388_608;
/// The unit of [`Host::weight`]: a weight of one.
pub const WEIGHT_UNIT: u64 = 100;

/// An instance as the ring sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Host<'a> {
    /// The name from which its virtual nodes are hashed: `ip:port`, or an id.
    pub name: &'a str,
    /// Its weight, relative to the others, in hundredths ([`WEIGHT_UNIT`]).
    pub weight: NonZeroU64,
    /// Its share of Envoy's ring, 0 to 1, if localities have weights; otherwise its share follows
    /// from its weight. Set for all hosts or for none.
    pub share: Option<f64>,
}

impl<'a> Host<'a> {
    /// A host whose weight alone is its share.
    pub fn new(name: &'a str, weight: NonZeroU64) -> Self {
        Self {
            name,
            weight,
            share: None,
        }
    }
}

/// The shares of Envoy's ring, in the order of the hosts.
pub(crate) fn shares(hosts: &[Host<'_>]) -> Vec<f64> {
    let sum: u64 = hosts.iter().map(|host| host.weight.get()).sum();
    let by_weight = |host: &Host<'_>| as_f64(host.weight.get()) / as_f64(sum);
    let share = |host: &Host<'_>| host.share.unwrap_or_else(|| by_weight(host));
    hosts.iter().map(share).collect()
}

/// The index of an instance in the slice that the ring was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIndex(u32);

impl HostIndex {
    pub(crate) fn new(index: u32) -> Self {
        Self(index)
    }

    /// The host at this position of the slice.
    pub fn of_place(place: usize) -> Self {
        Self(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// The same host in a longer slice, in which `by` others come first.
    pub(crate) fn shifted(self, by: usize) -> Self {
        Self::of_place(self.get().saturating_add(by))
    }

    /// The indexes of the first `count` hosts.
    pub(crate) fn all(count: usize) -> impl Iterator<Item = Self> {
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(Self)
    }

    /// The position in the slice.
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
        /// `hash_function`.
        hash: HashFunction,
        /// `minimum_ring_size`.
        min_size: u64,
        /// `maximum_ring_size`.
        max_size: u64,
    },
    /// `virtual_nodes × weight` points for each instance, whatever the others are: only the keys
    /// of an instance that comes or goes move.
    Fixed {
        /// Hash function of points.
        hash: HashFunction,
        /// Points of an instance of weight 1.
        virtual_nodes: NonZeroU32,
        /// A ring that would be larger is refused.
        max_size: u64,
    },
    /// As Envoy's `MAGLEV` fills its table.
    Maglev {
        /// `table_size`, a prime.
        table_size: NonZeroU32,
    },
}

/// Why a ring could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Weights and virtual nodes multiply to more points than allowed.
    #[error("the ring would have {points} virtual nodes, more than max_size {max_size}")]
    TooLarge {
        /// The number of points that it would have.
        points: u64,
        /// The number of points that is allowed.
        max_size: u64,
    },
}

/// The ring; empty if it was built from no hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Points(Points),
    Maglev(Maglev),
}

impl Default for Ring {
    fn default() -> Self {
        Self(Kind::Points(Points::default()))
    }
}

impl Ring {
    /// Builds the ring of these hosts. Their order matters with [`Shape::Envoy`], as in Envoy: it
    /// decides which hosts get the points that rounding leaves over.
    ///
    /// # Errors
    /// [`RingError::TooLarge`] with [`Shape::Fixed`]. Envoy's shape reduces the shares instead.
    pub fn build(hosts: &[Host<'_>], shape: Shape) -> Result<Self, RingError> {
        Self::default().update(&[], hosts, shape)
    }

    /// The ring of `after`, equal to [`Ring::build`]. It is made from this ring, which must be the
    /// ring of `before` with the same shape, so only the points that differ are hashed and sorted, and
    /// only their neighbours are copied.
    ///
    /// # Errors
    /// As [`Ring::build`].
    pub fn update(
        &self,
        before: &[Host<'_>],
        after: &[Host<'_>],
        shape: Shape,
    ) -> Result<Self, RingError> {
        let (hash, counts) = match shape {
            Shape::Envoy {
                hash,
                min_size,
                max_size,
            } => (hash, counts::envoy(after, min_size, max_size)),
            Shape::Fixed {
                hash,
                virtual_nodes,
                max_size,
            } => (hash, counts::fixed(after, virtual_nodes, max_size)?),
            Shape::Maglev { table_size } => {
                let table = Maglev::build(after, table_size);
                return Ok(Self(Kind::Maglev(table)));
            }
        };
        let nothing = Points::default();
        let (points, before) = match &self.0 {
            Kind::Points(points) if points.hosts() == before.len() => (points, before),
            Kind::Points(_) | Kind::Maglev(_) => (&nothing, [].as_slice()),
        };
        let points = points.update(before, after, &counts, hash);
        Ok(Self(Kind::Points(points)))
    }

    /// The owner of a hash: the host of the first point at or after it, or of the first point of
    /// all. `None` if the ring is empty.
    #[inline]
    pub fn owner(&self, hash: u64) -> Option<HostIndex> {
        match &self.0 {
            Kind::Points(points) => points.owner(hash),
            Kind::Maglev(table) => table.owner(hash),
        }
    }

    /// The number of virtual nodes, or of slots of a table.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Points(points) => points.len(),
            Kind::Maglev(table) => table.slots().len(),
        }
    }

    /// Whether it has no virtual nodes or slots.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The arcs of the ring: owners with the last hash of each arc, in order. A table has no arcs.
    #[cfg(test)]
    pub(crate) fn arcs(&self) -> impl Iterator<Item = (u64, HostIndex)> + '_ {
        self.points().into_iter().flat_map(Points::iter)
    }

    /// The virtual nodes; `None` for a table.
    pub(crate) fn points(&self) -> Option<&Points> {
        match &self.0 {
            Kind::Points(points) => Some(points),
            Kind::Maglev(_) => None,
        }
    }

    /// The slots of a table; `None` for a ring of points.
    pub(crate) fn slots(&self) -> Option<&[u32]> {
        match &self.0 {
            Kind::Points(_) => None,
            Kind::Maglev(table) => Some(table.slots()),
        }
    }
}

#[cfg(test)]
mod tests;
