//! Two rings → the stretches of hashes in which their owners may differ.
//!
//! Most chunks of a ring and the next one are the same in memory, and most points of the others are
//! equal.

use std::ops::Range;

use super::chunk::{Chunk, Point};
use super::{Points, index, wide};
use crate::names::common_ends;
use crate::ring::HostIndex;

/// Two rings, and what they have in common.
pub(crate) struct Comparison<'a> {
    old: &'a Points,
    new: &'a Points,
    /// Whether each slot belongs to one instance in the old ring and to another in the new one.
    differs: Vec<bool>,
}

/// Hashes in which owners may differ.
pub(crate) struct Stretch<A, B> {
    /// The first hash.
    pub(crate) start: u64,
    /// The arcs of the old ring: owners with the last hash of each arc, in order.
    pub(crate) old: A,
    /// The arcs of the new ring, the last of which ends with the same hash.
    pub(crate) new: B,
}

/// A part of a ring.
struct Part {
    chunks: Range<usize>,
    /// How many points at its beginning and at its end are left out. The last arc ends with the
    /// first of those at its end.
    front: usize,
    back: usize,
}

impl<'a> Comparison<'a> {
    /// `same` says whether a host of the old ring and a host of the new ring are one instance.
    pub(crate) fn new(
        old: &'a Points,
        new: &'a Points,
        mut same: impl FnMut(HostIndex, HostIndex) -> bool,
    ) -> Self {
        let pairs = old.slots.pairs(&new.slots);
        let differs = pairs.map(|pair| pair.is_some_and(|(old, new)| !same(old, new)));
        Self {
            differs: differs.collect(),
            old,
            new,
        }
    }

    /// Everywhere else a hash has the same owner in both rings.
    pub(crate) fn stretches(
        &self,
    ) -> impl Iterator<
        Item = Stretch<
            impl Iterator<Item = (u64, HostIndex)>,
            impl Iterator<Item = (u64, HostIndex)>,
        >,
    > {
        let parts = if self.old.bits == self.new.bits {
            self.unlike().into_iter().map(Some).collect()
        } else {
            vec![None]
        };
        parts.into_iter().map(|chunk| {
            let (mut start, mut ends) = (0, (0, 0));
            if let Some((number, has_same_end)) = chunk {
                let [old, new] = [self.old, self.new].map(|points| points.points_of(number));
                ends = common_ends(old, new, |old, new| old == new && self.is_one(old));
                if !has_same_end {
                    ends.1 = 0;
                }
                let last = old.get(..ends.0).and_then(<[Point]>::last);
                let first = || wide(number) << (64 - self.old.bits);
                start = last.map_or_else(first, |point| point.hash().saturating_add(1));
            }
            let part = |points: &Points| Part {
                chunks: chunk.map_or(0..points.chunks.len(), |(number, _)| number..number + 1),
                front: ends.0,
                back: ends.1,
            };
            Stretch {
                start,
                old: self.old.arcs(part(self.old)),
                new: self.new.arcs(part(self.new)),
            }
        })
    }

    /// The chunks in which owners may differ, each with whether hashes after its last point have one
    /// owner in both rings. That owner is found in the next chunk.
    fn unlike(&self) -> Vec<(usize, bool)> {
        let some_differ = self.differs.contains(&true);
        let is_shared = |(old, new): (&Chunk, &Chunk)| {
            let mut points = old.points().iter();
            old.is(new) && (!some_differ || points.all(|point| self.is_one(point)))
        };
        let chunks = self.old.chunks.iter().zip(&self.new.chunks);
        let shared: Vec<bool> = chunks.map(is_shared).collect();
        let next = (1..shared.len()).chain([0]);
        let unlike = shared.iter().zip(next).enumerate();
        let unlike = unlike.filter_map(|(number, (is_shared, next))| {
            let [old, new] = [self.old, self.new].map(|points| points.points_of(next));
            let has_same_end = match shared.get(next) {
                Some(true) => !old.is_empty(),
                _ => old
                    .first()
                    .is_some_and(|first| new.first() == Some(first) && self.is_one(first)),
            };
            (!is_shared || !has_same_end).then_some((number, has_same_end))
        });
        unlike.collect()
    }

    /// Whether a point that both rings have belongs to one instance.
    fn is_one(&self, point: &Point) -> bool {
        self.differs.get(index(point.slot)) != Some(&true)
    }
}

impl Points {
    fn points_of(&self, chunk: usize) -> &[Point] {
        self.chunks.get(chunk).map_or(&[], Chunk::points)
    }

    /// The arcs of a part of the ring.
    fn arcs(&self, part: Part) -> impl Iterator<Item = (u64, HostIndex)> {
        let last = part.chunks.end.saturating_sub(1);
        let back = self.points_of(last);
        let back = back
            .len()
            .checked_sub(part.back)
            .and_then(|at| back.get(at));
        let end = match back {
            Some(point) => Some((point.hash(), point.slot)),
            None => {
                let end = (wide(last) << (64 - self.bits)) | (u64::MAX >> self.bits);
                self.first_after(last).map(|point| (end, point.slot))
            }
        };
        let chunks = self.chunks.get(part.chunks).unwrap_or_default();
        let count: usize = chunks.iter().map(|chunk| chunk.points().len()).sum();
        let points = chunks.iter().flat_map(Chunk::points).skip(part.front);
        let points = points.take(count.saturating_sub(part.front + part.back));
        let arcs = points.map(|point| (point.hash(), point.slot)).chain(end);
        arcs.filter_map(|(end, slot)| Some((end, self.slots.place(slot)?)))
    }
}
