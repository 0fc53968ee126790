//! Distinct instances in the order in which they may be tried, in a place of fixed size.

use crate::ring::HostIndex;

/// The most candidates of one request.
pub const CANDIDATES_MAX: usize = 8;

/// Distinct instances in the order in which they may be tried.
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

    /// Adds one unless it is in, or there are as many as wanted.
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

    /// The same instances in a longer list, which has so many before them.
    #[inline]
    pub(crate) fn shift(&mut self, by: usize) {
        if by > 0 {
            for host in &mut self.list {
                *host = host.shifted(by);
            }
        }
    }

    /// One or more.
    pub fn as_slice(&self) -> &[HostIndex] {
        self.list.get(..self.len).unwrap_or_default()
    }

    /// The one to try first.
    pub fn first(&self) -> HostIndex {
        let [first, ..] = self.list;
        first
    }
}
