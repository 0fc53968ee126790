//! Distinct instances in the order in which a request may try them, in an array of fixed size.

use crate::ring::HostIndex;

/// The most candidates of one request.
pub const CANDIDATES_MAX: usize = 8;

/// Distinct instances in the order in which a request may try them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidates {
    list: [HostIndex; CANDIDATES_MAX],
    len: usize,
    wanted: usize,
}

impl Candidates {
    #[inline]
    pub(super) fn new(first: HostIndex, wanted: usize) -> Self {
        Self {
            list: [first; CANDIDATES_MAX],
            len: 1,
            wanted: wanted.clamp(1, CANDIDATES_MAX),
        }
    }

    /// Whether there are as many as wanted.
    #[inline]
    pub(super) fn is_complete(&self) -> bool {
        self.len >= self.wanted
    }

    /// Adds an instance, unless it is in the list or the list is complete.
    #[inline]
    pub(super) fn push(&mut self, host: HostIndex) {
        if self.is_complete() || self.as_slice().contains(&host) {
            return;
        }
        if let Some(place) = self.list.get_mut(self.len) {
            *place = host;
            self.len += 1;
        }
    }

    /// Renumbers the instances for a longer list of hosts, in which `by` others come first.
    #[inline]
    pub(crate) fn shift(&mut self, by: usize) {
        if by > 0 {
            for host in &mut self.list {
                *host = host.shifted(by);
            }
        }
    }

    /// One or more instances.
    pub fn as_slice(&self) -> &[HostIndex] {
        self.list.get(..self.len).unwrap_or_default()
    }

    /// The instance to try first.
    pub fn first(&self) -> HostIndex {
        let [first, ..] = self.list;
        first
    }
}
