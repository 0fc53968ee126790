//! Hosts before and after → which points go and which are new.

use std::fmt::Write as _;

use super::slots::Slots;
use super::{index, wide};
use crate::hash::HashFunction;
use crate::names::matches;
use crate::ring::Host;

/// The difference between two rings.
#[derive(Debug)]
pub(super) struct Plan {
    /// The slots after the change.
    pub(super) slots: Slots,
    /// New points: hash and slot, in order.
    pub(super) added: Vec<(u64, u32)>,
    /// Points that go: hash and slot, in order.
    pub(super) removed: Vec<(u64, u32)>,
    /// Whether each slot before loses all its points, if they are found by their slot; empty if they
    /// are among those removed.
    pub(super) gone: Vec<bool>,
    /// Whether hosts that stay change places with each other.
    pub(super) reorders: bool,
}

impl Plan {
    /// `chunks` is the number of chunks that the points are in.
    #[inline(never)]
    pub(super) fn new(
        old: &Slots,
        before: &[Host<'_>],
        after: &[Host<'_>],
        counts: &[u32],
        hash: HashFunction,
        chunks: usize,
    ) -> Self {
        let origins = matches(before, after, |host| host.name);
        let slots = old.next(&origins, counts);
        let mut plan = Self {
            added: Vec::new(),
            removed: Vec::new(),
            gone: Vec::new(),
            reorders: !origins.iter().flatten().is_sorted(),
            slots,
        };
        let mut goes = vec![true; before.len()];
        for ((host, origin), slot) in after.iter().zip(&origins).zip(plan.slots.hosts()) {
            let had = origin.and_then(|place| {
                *goes.get_mut(place)? = false;
                old.at(place)
            });
            let had = had.map_or(0, |slot| slot.points);
            push_points(
                host.name,
                hash,
                had..slot.points,
                slot.number,
                &mut plan.added,
            );
            push_points(
                host.name,
                hash,
                slot.points..had,
                slot.number,
                &mut plan.removed,
            );
        }
        plan.remove_gone(old, before, &goes, hash, chunks);
        plan.added.sort_unstable();
        plan.removed.sort_unstable();
        plan
    }

    /// The points of a few hosts are found by their hashes. Once they are in all chunks, anyway,
    /// hashing them is dearer than looking at all points.
    fn remove_gone(
        &mut self,
        old: &Slots,
        before: &[Host<'_>],
        goes: &[bool],
        hash: HashFunction,
        chunks: usize,
    ) {
        let hosts = before.iter().zip(old.hosts()).zip(goes);
        let hosts = hosts.filter(|(_, goes)| **goes).map(|(host, _)| host);
        let points: u64 = hosts.clone().map(|(_, slot)| u64::from(slot.points)).sum();
        if points < wide(chunks) {
            for (host, slot) in hosts {
                push_points(
                    host.name,
                    hash,
                    0..slot.points,
                    slot.number,
                    &mut self.removed,
                );
            }
            return;
        }
        let all = old.hosts().iter().map(|slot| index(slot.number) + 1).max();
        self.gone = vec![false; all.unwrap_or(0)];
        for (_, slot) in hosts {
            if let Some(gone) = self.gone.get_mut(index(slot.number)) {
                *gone = true;
            }
        }
    }
}

/// The points of one host: the hashes of `<name>_<number>`.
#[inline(never)]
fn push_points(
    name: &str,
    hash: HashFunction,
    numbers: std::ops::Range<u32>,
    slot: u32,
    points: &mut Vec<(u64, u32)>,
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
            points.push((hash.hash(text.as_bytes()), slot));
        }
    }
}
