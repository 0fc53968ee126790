//! The virtual nodes in order of hash, in chunks by their top bits.
//!
//! Hashes are spread evenly, so the top bits of a hash tell its chunk, and the bits that follow tell
//! its place in the chunk to within a few points. A look-up reads one entry of the list of chunks
//! and searches a handful of neighbours, where a tree would follow a pointer for each bit of the
//! size. On a large ring, memory access is the whole cost of a look-up.
//!
//! A change copies only the chunks that gain or lose a point; rings share the others. Points name
//! their hosts by slots, which stay the same while positions change.
//!
//! The parts of a change are not inlined into one function: in a VM, the memory that compiling the
//! largest function takes stays with the process.

mod chunk;
mod compare;
mod plan;
mod slots;

use std::borrow::Cow;

use super::{Host, HostIndex};
use crate::hash::HashFunction;
use chunk::{Chunk, Edit, Point, Room};
pub(crate) use compare::{Comparison, Stretch};
use plan::Plan;
use slots::Slots;

/// The most points of a chunk, on average, when points are divided into chunks.
const POINTS_EACH: usize = 32;
/// The averages at which points are divided anew. Their distance keeps an instance that comes and
/// goes from dividing the whole ring each time.
const TOO_FEW: usize = 12;
const TOO_MANY: usize = 48;

/// Points in order of hash; equal hashes in order of host, so that equal inputs give equal rings.
#[derive(Debug, Clone)]
pub(crate) struct Points {
    /// One for each value of the top bits; none if there are no points.
    chunks: Box<[Chunk]>,
    /// The number of top bits that tell the chunk.
    bits: u32,
    /// The number of points.
    len: usize,
    slots: Slots,
}

impl Default for Points {
    fn default() -> Self {
        Self {
            chunks: Box::default(),
            bits: 1,
            len: 0,
            slots: Slots::default(),
        }
    }
}

/// By content: rings that are equal may differ in their slots and chunks, which depend on the rings
/// before them.
impl PartialEq for Points {
    fn eq(&self, other: &Self) -> bool {
        let counts = |points: &Self| {
            let hosts = points.slots.hosts().iter();
            hosts.map(|slot| slot.points).collect::<Vec<_>>()
        };
        self.len == other.len && counts(self) == counts(other) && self.iter().eq(other.iter())
    }
}

impl Eq for Points {}

impl Points {
    #[inline]
    pub(super) fn owner(&self, hash: u64) -> Option<HostIndex> {
        let (number, offset) = position(hash, self.bits);
        let point = self.chunks.get(number)?.first_from(hash, offset);
        let point = point.or_else(|| self.first_after(number))?;
        self.slots.place(point.slot)
    }

    /// The first point after a chunk; after the last one comes the first of all.
    #[cold]
    fn first_after(&self, number: usize) -> Option<&Point> {
        let (upto, beyond) = self.chunks.split_at_checked(number + 1)?;
        beyond.iter().chain(upto).flat_map(Chunk::points).next()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of hosts.
    pub(super) fn hosts(&self) -> usize {
        self.slots.hosts().len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, HostIndex)> + '_ {
        let points = self.chunks.iter().flat_map(Chunk::points);
        points.filter_map(|point| Some((point.hash(), self.slots.place(point.slot)?)))
    }

    /// The points of `after` with these counts; `self` must have the points of `before`.
    #[inline(never)]
    pub(super) fn update(
        &self,
        before: &[Host<'_>],
        after: &[Host<'_>],
        counts: &[u32],
        hash: HashFunction,
    ) -> Self {
        let len = counts.iter().map(|count| index(*count)).sum();
        let bits = self.bits_for(len);
        let chunks = self.divided(bits);
        let plan = Plan::new(&self.slots, before, after, counts, hash, chunks.len());
        let chunks = if plan.gone.contains(&true) {
            without(&chunks, &plan.gone).into()
        } else {
            chunks
        };
        Self {
            chunks: if len == 0 {
                Box::default()
            } else {
                edited(&chunks, &plan, bits)
            },
            bits,
            len,
            slots: plan.slots,
        }
    }

    /// The number of top bits for `len` points.
    fn bits_for(&self, len: usize) -> u32 {
        let chunks = self.chunks.len();
        if (chunks * TOO_FEW..=chunks * TOO_MANY).contains(&len) {
            return self.bits;
        }
        let chunks = len.div_ceil(POINTS_EACH).next_power_of_two();
        chunks.ilog2().max(1)
    }

    /// The points in chunks by this many top bits.
    #[inline(never)]
    fn divided(&self, bits: u32) -> Cow<'_, [Chunk]> {
        if bits == self.bits && !self.chunks.is_empty() {
            return Cow::Borrowed(&self.chunks);
        }
        let points = self.chunks.iter().flat_map(Chunk::points).copied();
        chunks(points, bits).into()
    }
}

/// These points, which are in order, in chunks by `bits` top bits.
fn chunks(points: impl Iterator<Item = Point>, bits: u32) -> Vec<Chunk> {
    let (mut points, nothing, mut these) = (points.peekable(), Chunk::default(), Vec::new());
    let chunk = |number| {
        these.clear();
        while let Some(point) = points.next_if(|point| position(point.hash(), bits).0 == number) {
            these.push(point);
        }
        if these.is_empty() {
            nothing.clone()
        } else {
            Chunk::of(&these)
        }
    };
    (0..1 << bits).map(chunk).collect()
}

/// The chunks without the points of slots that are gone.
#[inline(never)]
fn without(chunks: &[Chunk], gone: &[bool]) -> Vec<Chunk> {
    let stays = |point: &&Point| gone.get(index(point.slot)) != Some(&true);
    let mut rest: Vec<Point> = Vec::new();
    let chunk = |chunk: &Chunk| {
        rest.clear();
        rest.extend(chunk.points().iter().filter(stays));
        if rest.len() == chunk.points().len() {
            chunk.clone()
        } else {
            Chunk::of(&rest)
        }
    };
    chunks.iter().map(chunk).collect()
}

/// The chunks after the change.
#[inline(never)]
fn edited(chunks: &[Chunk], plan: &Plan, bits: u32) -> Box<[Chunk]> {
    let (mut removed, mut added) = (plan.removed.as_slice(), plan.added.as_slice());
    let (mut rest, mut room) = (chunks, Room::default());
    let mut all = Vec::with_capacity(chunks.len());
    while !rest.is_empty() {
        // Whole stretches are shared between one chunk that changes and the next.
        let changed = [removed.first(), added.first()].into_iter().flatten();
        let changed = changed.map(|(hash, _)| position(*hash, bits).0).min();
        let shared = match changed {
            _ if plan.reorders => 0,
            Some(number) => rest.len().min(number - all.len()),
            None => rest.len(),
        };
        let (stretch, beyond) = rest.split_at(shared);
        all.extend_from_slice(stretch);
        let number = all.len();
        rest = beyond.split_first().map_or(beyond, |(chunk, beyond)| {
            let edit = Edit {
                removed: take(&mut removed, number, bits),
                added: take(&mut added, number, bits),
                reorders: plan.reorders,
            };
            all.push(chunk.edited(edit, &plan.slots, &mut room));
            beyond
        });
    }
    all.into()
}

/// Takes the points of a chunk from the beginning of a list.
fn take<'a>(points: &mut &'a [(u64, u32)], chunk: usize, bits: u32) -> &'a [(u64, u32)] {
    let here = points
        .iter()
        .take_while(|(hash, _)| position(*hash, bits).0 == chunk);
    points.split_off(..here.count()).unwrap_or_default()
}

/// The chunk of a hash, and its place between the least and the greatest hash of the chunk, 0 to
/// 2^32. `bits` is 1 to 32.
#[inline]
fn position(hash: u64, bits: u32) -> (usize, u32) {
    let (chunk, offset) = halves(hash >> (32 - bits));
    (index(chunk), offset)
}

#[inline]
fn halves(number: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

#[inline]
fn index(number: u32) -> usize {
    // A u32 fits a usize on every target of this workspace (wasm32 and 64-bit).
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
