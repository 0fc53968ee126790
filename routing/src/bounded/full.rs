//! The instances that a search found full, in an array of fixed size.

use super::TRIED_MAX;
use crate::ring::HostIndex;

/// Instances that were asked and were full, with their load.
pub(super) struct Full {
    hosts: [HostIndex; TRIED_MAX],
    in_flight: [u64; TRIED_MAX],
    len: usize,
}

impl Full {
    pub(super) fn nobody() -> Self {
        Self {
            hosts: [HostIndex::new(0); TRIED_MAX],
            in_flight: [0; TRIED_MAX],
            len: 0,
        }
    }

    pub(super) fn push(&mut self, host: HostIndex, in_flight: u64) {
        let places = (
            self.hosts.get_mut(self.len),
            self.in_flight.get_mut(self.len),
        );
        if let (Some(place), Some(load)) = places {
            (*place, *load) = (host, in_flight);
            self.len += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (HostIndex, u64)> + '_ {
        let hosts = self.hosts.iter().copied().take(self.len);
        hosts.zip(self.in_flight.iter().copied())
    }

    pub(super) fn has(&self, host: HostIndex) -> bool {
        self.hosts.iter().take(self.len).any(|full| *full == host)
    }
}
