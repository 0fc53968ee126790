//! A number for each host that stays while the host stays, whatever its position in the list.
//!
//! Points name their hosts by slots, so that points of hosts that stay are the same in the next
//! ring. This table, which is made anew for each ring, tells the position of each slot.

use super::index;
use crate::ring::HostIndex;

/// The place of a slot without a host.
const FREE: u32 = u32::MAX;

/// The hosts by slot and by position.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    /// The position of the host of each slot.
    places: Box<[u32]>,
    /// The hosts by position.
    hosts: Box<[Slot]>,
}

/// A host as its points know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) number: u32,
    /// How many points the host has.
    pub(super) points: u32,
}

impl Slots {
    /// The position of a slot's host.
    #[inline]
    pub(super) fn place(&self, slot: u32) -> Option<HostIndex> {
        let place = self.places.get(index(slot))?;
        Some(HostIndex::new(*place))
    }

    /// The slot of the host at a position.
    pub(super) fn at(&self, place: usize) -> Option<Slot> {
        self.hosts.get(place).copied()
    }

    /// The hosts by position.
    pub(super) fn hosts(&self) -> &[Slot] {
        &self.hosts
    }

    /// By slot, the positions of its hosts here and in `other`, if it has one in both.
    pub(super) fn pairs(
        &self,
        other: &Self,
    ) -> impl Iterator<Item = Option<(HostIndex, HostIndex)>> {
        let pairs = self.places.iter().zip(&other.places);
        pairs.map(|(here, there)| {
            let is_used = *here != FREE && *there != FREE;
            is_used.then(|| (HostIndex::new(*here), HostIndex::new(*there)))
        })
    }

    /// The slots of other hosts with these numbers of points. `origins` has the position here of
    /// each host that stays.
    ///
    /// A new host gets a slot that no host has here. So two rings, one made from the other, use a
    /// slot for different hosts only if there was another ring between them.
    #[inline(never)]
    pub(super) fn next(&self, origins: &[Option<usize>], counts: &[u32]) -> Self {
        let all = u32::try_from(self.places.len()).unwrap_or(FREE);
        let is_free = |slot: &u32| self.places.get(index(*slot)) == Some(&FREE);
        let mut free = (0..all).filter(is_free).chain(all..FREE);
        let hosts = origins.iter().zip(counts).map(|(origin, points)| {
            let kept = origin.and_then(|place| self.at(place));
            let number = kept.map(|slot| slot.number).or_else(|| free.next());
            Slot {
                number: number.unwrap_or(FREE),
                points: *points,
            }
        });
        let hosts: Box<[Slot]> = hosts.collect();
        let slots = hosts.iter().map(|slot| index(slot.number) + 1).max();
        let mut places = vec![FREE; slots.unwrap_or(0)];
        for (place, slot) in (0..).zip(&hosts) {
            if let Some(entry) = places.get_mut(index(slot.number)) {
                *entry = place;
            }
        }
        Self {
            places: places.into(),
            hosts,
        }
    }
}
