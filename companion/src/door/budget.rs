//! Places among the requests that are worked on: some for each kind, half of these for each client.

use std::sync::Arc;

use super::credentials::Caller;
use super::kept::{Kept, Share};
use super::need::Kind;

/// Requests of each kind that are worked on at once.
pub const REPORTS_MAX: usize = 512;
/// Reads at once.
pub const READS_MAX: usize = 256;
/// Writes at once.
pub const WRITES_MAX: usize = 512;
/// Reads at once of clients without a credential, where others have one.
pub const STRANGERS_MAX: usize = 64;
/// Open streams of events and of changes.
pub const EVENT_STREAMS_MAX: usize = 256;
/// Looks at readiness and metrics at once.
pub const LOOKS_MAX: usize = 32;

/// The places of all kinds.
#[derive(Debug)]
pub struct Budget {
    reports: Arc<Kept>,
    reads: Arc<Kept>,
    writes: Arc<Kept>,
    looks: Arc<Kept>,
    strangers: Arc<Kept>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            reports: Kept::new(REPORTS_MAX),
            reads: Kept::new(READS_MAX),
            writes: Kept::new(WRITES_MAX),
            looks: Kept::new(LOOKS_MAX),
            strangers: Kept::new(STRANGERS_MAX),
        }
    }
}

impl Budget {
    /// A place for a request. `has_credentials` tells whether others have one.
    pub fn take(&self, kind: Kind, caller: &Caller, has_credentials: bool) -> Option<Share> {
        let places = match kind {
            _ if has_credentials && !caller.is_known() => &self.strangers,
            Kind::Report => &self.reports,
            Kind::Read => &self.reads,
            Kind::Write => &self.writes,
            Kind::Look => &self.looks,
        };
        places.place(caller.principal())
    }
}
