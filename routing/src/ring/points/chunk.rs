//! A part of the ring: the points whose hashes have the same top bits, in order.
//!
//! A chunk is shared by all rings in which it is the same. A change makes another chunk.

use std::sync::Arc;

use super::slots::Slots;
use super::wide;

/// The most points of a chunk that a look-up walks over. Of evenly spread hashes no chunk has as
/// many.
const WALKED_MAX: usize = 256;

/// A virtual node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// As bytes, so that a point takes 12 of them and not 16.
    hash: [u8; 8],
    /// The slot of its host.
    pub(super) slot: u32,
}

impl Point {
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        u64::from_ne_bytes(self.hash)
    }
}

impl From<(u64, u32)> for Point {
    fn from((hash, slot): (u64, u32)) -> Self {
        Self {
            hash: hash.to_ne_bytes(),
            slot,
        }
    }
}

/// Points in order of hash; equal hashes in order of host, so that equal inputs give equal rings.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk(Arc<[Point]>);

/// The changes of a chunk: points as pairs of hash and slot, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit<'a> {
    pub(super) removed: &'a [(u64, u32)],
    pub(super) added: &'a [(u64, u32)],
    /// Whether hosts have changed places.
    pub(super) reorders: bool,
}

impl Chunk {
    /// The chunk of these points, in order.
    pub(super) fn of(points: &[Point]) -> Self {
        Self(points.into())
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.0
    }

    /// Whether both are one chunk in memory.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The first point at or after a hash. `offset` is the hash's place between the least and the
    /// greatest hash of the chunk, 0 to 2^32.
    ///
    /// Hashes are spread evenly, so a part of the points as large as the offset comes before it, but
    /// for a few. A chunk of many points, where they are not, is searched by halves: O(log n).
    #[inline]
    pub(super) fn first_from(&self, hash: u64, offset: u32) -> Option<&Point> {
        let points = &*self.0;
        if points.len() > WALKED_MAX {
            return self.first_by_halves(hash);
        }
        let expected = (u64::from(offset) * u64::try_from(points.len()).ok()?) >> 32;
        let (below, above) = points.split_at_checked(usize::try_from(expected).ok()?)?;
        let (first, beyond) = above.split_first()?;
        if first.hash() < hash {
            return beyond.iter().find(|point| point.hash() >= hash);
        }
        let mut found = first;
        for point in below.iter().rev() {
            if point.hash() < hash {
                break;
            }
            found = point;
        }
        Some(found)
    }

    #[cold]
    fn first_by_halves(&self, hash: u64) -> Option<&Point> {
        let less = self.0.partition_point(|point| point.hash() < hash);
        self.0.get(less)
    }

    /// The chunk after a change; `room` is memory to work in. It shares its points if they stay.
    #[inline(never)]
    pub(super) fn edited(&self, edit: Edit<'_>, slots: &Slots, room: &mut Room) -> Self {
        let stays = edit.removed.is_empty() && edit.added.is_empty();
        if stays && !(edit.reorders && has_unordered_ties(&self.0, slots)) {
            return self.clone();
        }
        let Room { rest, points } = room;
        rest.clear();
        points.clear();
        let mut has_ties = edit.reorders;
        let kept = if edit.removed.is_empty() {
            &*self.0
        } else {
            has_ties |= remove(&self.0, edit.removed, rest);
            rest.as_slice()
        };
        has_ties |= insert(kept, edit.added, points);
        if has_ties {
            order_ties(points, slots);
        }
        Self::of(points)
    }
}

/// Memory that is used for one chunk after the other.
#[derive(Debug, Default)]
pub(super) struct Room {
    rest: Vec<Point>,
    points: Vec<Point>,
}

/// Copies the points but for those removed; `true` if some had equal hashes, which lose their order.
#[inline(never)]
fn remove(points: &[Point], removed: &[(u64, u32)], rest: &mut Vec<Point>) -> bool {
    let (mut points, mut has_ties) = (points, false);
    for gone in removed.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((hash, _)) = gone.first() else {
            continue;
        };
        let (less, from) = points.split_at(less_than(points, *hash));
        rest.extend_from_slice(less);
        let ties = from.iter().take_while(|point| point.hash() == *hash);
        let (ties, beyond) = from.split_at(ties.count());
        has_ties |= ties.len() > 1;
        // Pairs like those removed, so that one function sorts both.
        let mut ties: Vec<(u64, u32)> = ties.iter().map(|tie| (tie.hash(), tie.slot)).collect();
        ties.sort_unstable();
        let mut gone = gone.iter().peekable();
        for tie in ties {
            while gone.next_if(|gone| **gone < tie).is_some() {}
            if gone.next_if_eq(&&tie).is_none() {
                rest.push(tie.into());
            }
        }
        points = beyond;
    }
    rest.extend_from_slice(points);
    has_ties
}

/// Copies the points with those added; `true` if one of these has the hash of another point. Equal
/// hashes have no order yet.
#[inline(never)]
fn insert(points: &[Point], added: &[(u64, u32)], all: &mut Vec<Point>) -> bool {
    let (mut rest, mut has_ties) = (points, false);
    for (hash, slot) in added.iter().copied() {
        // Whole stretches are copied between one new point and the next.
        let (less, from) = rest.split_at(less_than(rest, hash));
        all.extend_from_slice(less);
        let neighbours = [all.last(), from.first()];
        has_ties |= neighbours.iter().flatten().any(|p| p.hash() == hash);
        all.push((hash, slot).into());
        rest = from;
    }
    all.extend_from_slice(rest);
    has_ties
}

/// How many points have a smaller hash. Searches near the beginning first, since the next of many
/// new points is near.
fn less_than(points: &[Point], hash: u64) -> usize {
    let mut width = 1;
    while points.get(width).is_some_and(|point| point.hash() < hash) {
        width *= 2;
    }
    let near = points.get(..=width).unwrap_or(points);
    near.partition_point(|point| point.hash() < hash)
}

fn has_unordered_ties(points: &[Point], slots: &Slots) -> bool {
    let mut ties = points.chunk_by(|a, b| a.hash == b.hash);
    !ties.all(|ties| ties.is_sorted_by_key(|tie| slots.place(tie.slot)))
}

/// Puts equal hashes in the order of their hosts.
fn order_ties(points: &mut [Point], slots: &Slots) {
    for ties in points.chunk_by_mut(|a, b| a.hash == b.hash) {
        if ties.len() < 2 {
            continue;
        }
        let place = |tie: &Point| {
            slots
                .place(tie.slot)
                .map_or(u64::MAX, |host| wide(host.get()))
        };
        // Pairs like new points, so that one function sorts both.
        let mut hosts: Vec<(u64, u32)> = ties.iter().map(|tie| (place(tie), tie.slot)).collect();
        hosts.sort_unstable();
        for (tie, (_, slot)) in ties.iter_mut().zip(hosts) {
            tie.slot = slot;
        }
    }
}
