//! The virtual nodes in order of hash, as two arrays, with an index of their top bits.
//!
//! Hashes are spread evenly, so the top bits of one say where it lies among them, give or take a
//! few: a lookup reads one entry of the index and searches a handful of neighbours, where a tree
//! would follow a pointer for each bit of the size. A search within an entry is binary, so that hashes
//! that are not spread evenly cost O(log n) and no more.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Host, HostIndex};
use crate::hash::HashFunction;

/// Points in order of hash; equal hashes in order of host, so that equal inputs give equal rings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Points {
    hashes: Box<[u64]>,
    hosts: Box<[u32]>,
    /// `starts[t]` is the first point whose top bits are `t` or more; one entry more than there are
    /// values of the top bits.
    starts: Box<[u32]>,
    /// How far a hash is shifted to leave the top bits.
    shift: u32,
    /// How many points each host has.
    counts: Box<[u32]>,
}

impl Points {
    pub(super) fn owner(&self, hash: u64) -> Option<HostIndex> {
        let top = usize::try_from(hash >> self.shift).ok()?;
        let (from, to) = (*self.starts.get(top)?, *self.starts.get(top + 1)?);
        let within = self.hashes.get(index(from)..index(to))?;
        let at = index(from) + within.partition_point(|point| *point < hash);
        let host = self.hosts.get(at).or_else(|| self.hosts.first())?;
        Some(HostIndex::new(*host))
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, HostIndex)> + '_ {
        let hosts = self.hosts.iter().copied().map(HostIndex::new);
        self.hashes.iter().copied().zip(hosts)
    }

    /// The points of `after` with these counts, where `self` has those of `before`.
    pub(super) fn update(
        &self,
        before: &[Host<'_>],
        after: &[Host<'_>],
        counts: &[u32],
        hash: HashFunction,
    ) -> Self {
        let plan = Plan::new(&self.counts, before, after, counts, hash);
        let total: usize = counts.iter().map(|count| index(*count)).sum();
        let mut hashes = Vec::with_capacity(total);
        let mut hosts = Vec::with_capacity(total);
        let mut added = plan.added.iter().copied().peekable();
        let mut dropped = plan.dropped.iter().copied().peekable();
        for (point, old) in self.hashes.iter().copied().zip(self.hosts.iter().copied()) {
            if dropped.next_if_eq(&(point, old)).is_some() {
                continue;
            }
            let Some(host) = plan.renamed.get(index(old)).copied().flatten() else {
                continue;
            };
            while let Some((hash, host)) = added.next_if(|new| *new < (point, host)) {
                hashes.push(hash);
                hosts.push(host);
            }
            hashes.push(point);
            hosts.push(host);
        }
        for (hash, host) in added {
            hashes.push(hash);
            hosts.push(host);
        }
        order_equals(&hashes, &mut hosts);
        Self::indexed(hashes, hosts, counts)
    }

    fn indexed(hashes: Vec<u64>, hosts: Vec<u32>, counts: &[u32]) -> Self {
        // About two points to an entry.
        let bits = (hashes.len() / 2 + 1).next_power_of_two().ilog2().max(1);
        let shift = 64 - bits;
        let tops = 1usize << bits;
        let mut starts = Vec::with_capacity(tops + 1);
        let mut at = 0;
        for (number, hash) in (0u32..).zip(&hashes) {
            let top = usize::try_from(hash >> shift).unwrap_or(usize::MAX);
            while at <= top {
                starts.push(number);
                at += 1;
            }
        }
        let end = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        starts.resize(tops + 1, end);
        Self {
            hashes: hashes.into(),
            hosts: hosts.into(),
            starts: starts.into(),
            shift,
            counts: counts.into(),
        }
    }
}

/// What differs between two rings.
struct Plan {
    /// The new index of each old host; `None` if it is gone.
    renamed: Vec<Option<u32>>,
    /// Points that are new, with the new index of their host, in order.
    added: Vec<(u64, u32)>,
    /// Points of hosts that stay with fewer, with the old index of their host, in order.
    dropped: Vec<(u64, u32)>,
}

impl Plan {
    fn new(
        had: &[u32],
        before: &[Host<'_>],
        after: &[Host<'_>],
        counts: &[u32],
        hash: HashFunction,
    ) -> Self {
        let old: BTreeMap<&str, (u32, u32)> = (0u32..)
            .zip(before)
            .zip(had)
            .map(|((number, host), count)| (host.name, (number, *count)))
            .collect();
        let mut plan = Self {
            renamed: vec![None; before.len()],
            added: Vec::new(),
            dropped: Vec::new(),
        };
        for ((new, host), count) in (0u32..).zip(after).zip(counts) {
            // A name that is there twice keeps the points of its first host only.
            let kept = old.get(host.name).copied().filter(|(number, _)| {
                let place = plan.renamed.get_mut(index(*number));
                place.is_some_and(|place| place.is_none() && place.replace(new).is_none())
            });
            let (number, had) = kept.unwrap_or((0, 0));
            let numbered = |numbers, host_index: u32, points: &mut Vec<(u64, u32)>| {
                push_points(host.name, hash, numbers, |hash| {
                    points.push((hash, host_index));
                });
            };
            numbered(had..*count, new, &mut plan.added);
            numbered(*count..had, number, &mut plan.dropped);
        }
        plan.added.sort_unstable();
        plan.dropped.sort_unstable();
        plan
    }
}

/// Hosts that were renumbered may stand in another order on one hash.
fn order_equals(hashes: &[u64], hosts: &mut [u32]) {
    let mut start = 0;
    for run in hashes.chunk_by(|a, b| a == b) {
        let end = start + run.len();
        if run.len() > 1
            && let Some(run) = hosts.get_mut(start..end)
        {
            run.sort_unstable();
        }
        start = end;
    }
}

/// The points of one host: the hash of `<name>_<number>`.
fn push_points(
    name: &str,
    hash: HashFunction,
    numbers: std::ops::Range<u32>,
    mut push: impl FnMut(u64),
) {
    if numbers.is_empty() {
        return;
    }
    let mut text = String::with_capacity(name.len() + 11);
    text.push_str(name);
    text.push('_');
    let prefix = text.len();
    for number in numbers {
        text.truncate(prefix);
        // Writing to a string cannot fail.
        if write!(text, "{number}").is_ok() {
            push(hash.hash(text.as_bytes()));
        }
    }
}

fn index(number: u32) -> usize {
    // A u32 fits a usize on every target of this workspace (wasm32 and 64-bit).
    usize::try_from(number).unwrap_or(usize::MAX)
}
