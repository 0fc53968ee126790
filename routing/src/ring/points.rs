//! The virtual nodes in order of hash, as arrays, with an index by their top bits.
//!
//! Hashes are spread evenly, so the top bits of a hash tell its position to within a few points. A
//! look-up reads one entry of the index and searches a handful of neighbours, where a tree would
//! follow a pointer for each bit of the size. The search within an entry is binary, so hashes that
//! are not spread evenly cost O(log n) and no more.
//!
//! The upper half of a hash is stored beside the host, so that a look-up reads one cache line for
//! both. The lower half is read only if two upper halves are equal. On a large ring, memory access
//! is the whole cost of a look-up.

mod plan;

use super::{Host, HostIndex};
use crate::hash::HashFunction;
use plan::{Kept, Plan};

/// Points in order of hash; equal hashes in order of host, so that equal inputs give equal rings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Points {
    points: Box<[Point]>,
    /// The lower halves of the hashes.
    lows: Box<[u32]>,
    /// `starts[t]` is the first point whose top bits are `t` or more. There is one entry more than
    /// there are values of the top bits.
    starts: Box<[u32]>,
    /// The right shift that leaves the top bits of a hash.
    shift: u32,
    /// The number of points of each host.
    counts: Box<[u32]>,
}

/// A point without the lower half of its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    high: u32,
    host: u32,
}

impl Points {
    #[inline]
    pub(super) fn owner(&self, hash: u64) -> Option<HostIndex> {
        let top = usize::try_from(hash >> self.shift).ok()?;
        let (from, to) = (*self.starts.get(top)?, *self.starts.get(top + 1)?);
        let within = self.points.get(index(from)..index(to))?;
        let (high, low) = halves(hash);
        let mut at = index(from) + within.partition_point(|point| point.high < high);
        if self.points.get(at).is_some_and(|point| point.high == high) {
            at += self.equal_and_less(at, high, low);
        }
        let point = self.points.get(at).or_else(|| self.points.first())?;
        Some(HostIndex::new(point.host))
    }

    /// How many points from `at` on have this upper half and a smaller lower half.
    #[cold]
    fn equal_and_less(&self, at: usize, high: u32, low: u32) -> usize {
        let rest = self.points.get(at..).unwrap_or_default();
        let equal = rest.partition_point(|point| point.high == high);
        let lows = self.lows.get(at..at + equal).unwrap_or_default();
        lows.partition_point(|point| *point < low)
    }

    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, HostIndex)> + '_ {
        let points = self.points.iter().zip(&self.lows);
        points.map(|(point, low)| (whole(point.high, *low), HostIndex::new(point.host)))
    }

    /// The points of `after` with these counts; `self` must have the points of `before`.
    pub(super) fn update(
        &self,
        before: &[Host<'_>],
        after: &[Host<'_>],
        counts: &[u32],
        hash: HashFunction,
    ) -> Self {
        let plan = Plan::new(&self.counts, before, after, counts, hash);
        let kept = plan.kept(&self.points, &self.lows);
        let (mut points, lows) = if plan.added.is_empty() {
            (kept.points.into_owned(), kept.lows.into_owned())
        } else {
            merged(&kept, &plan.added)
        };
        if !plan.keeps_order() {
            order_equals(&mut points, &lows);
        }
        Self::indexed(points, lows, counts)
    }

    fn indexed(points: Vec<Point>, lows: Vec<u32>, counts: &[u32]) -> Self {
        // About two points per entry; the top bits all come from the upper half.
        let bits = (points.len() / 2 + 1).next_power_of_two().ilog2().max(1);
        let entries = (1 << bits) + 1;
        let mut starts = Vec::with_capacity(entries);
        for (at, point) in (0u32..).zip(&points) {
            let top = index(point.high >> (32 - bits));
            while starts.len() <= top {
                starts.push(at);
            }
        }
        starts.resize(entries, u32::try_from(points.len()).unwrap_or(u32::MAX));
        Self {
            points: points.into(),
            lows: lows.into(),
            starts: starts.into(),
            shift: 64 - bits,
            counts: counts.into(),
        }
    }
}

/// Merges the kept points and the added ones, both in order.
fn merged(kept: &Kept<'_>, added: &[(u64, u32)]) -> (Vec<Point>, Vec<u32>) {
    let total = kept.points.len() + added.len();
    let (mut points, mut lows) = (Vec::with_capacity(total), Vec::with_capacity(total));
    // Whole stretches are copied between one new point and the next.
    let (mut rest, mut rest_lows): (&[Point], &[u32]) = (&kept.points, &kept.lows);
    for (hash, host) in added.iter().copied() {
        let (high, low) = halves(hash);
        let mut until = before_of(rest, high);
        while let (Some(point), Some(other)) = (rest.get(until), rest_lows.get(until))
            && point.high == high
            && (*other, point.host) < (low, host)
        {
            until += 1;
        }
        let (stretch, beyond) = rest.split_at(until);
        points.extend_from_slice(stretch);
        points.push(Point { high, host });
        let (stretch, beyond_lows) = rest_lows.split_at(until);
        lows.extend_from_slice(stretch);
        lows.push(low);
        (rest, rest_lows) = (beyond, beyond_lows);
    }
    points.extend_from_slice(rest);
    lows.extend_from_slice(rest_lows);
    (points, lows)
}

/// How many points have a smaller upper half. Searches near the beginning first, since the next of
/// many new points is near.
fn before_of(points: &[Point], high: u32) -> usize {
    let mut width = 1;
    while points.get(width).is_some_and(|point| point.high < high) {
        width *= 2;
    }
    let near = points.get(..=width).unwrap_or(points);
    near.partition_point(|point| point.high < high)
}

/// Restores the order of equal hashes after hosts have changed places.
fn order_equals(points: &mut [Point], lows: &[u32]) {
    let mut start = 0;
    for run in points.chunk_by_mut(|a, b| a.high == b.high) {
        let end = start + run.len();
        if run.len() > 1 {
            let lows = lows.get(start..end).unwrap_or_default();
            // Pairs like new points, so that one function sorts both.
            let hosts = lows.iter().zip(&*run);
            let mut hosts: Vec<(u64, u32)> = hosts
                .map(|(low, point)| (u64::from(*low), point.host))
                .collect();
            hosts.sort_unstable();
            for (point, (_, host)) in run.iter_mut().zip(hosts) {
                point.host = host;
            }
        }
        start = end;
    }
}

#[inline]
fn halves(hash: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

fn whole(high: u32, low: u32) -> u64 {
    (u64::from(high) << 32) | u64::from(low)
}

#[inline]
fn index(number: u32) -> usize {
    // A u32 fits a usize on every target of this workspace (wasm32 and 64-bit).
    usize::try_from(number).unwrap_or(usize::MAX)
}
