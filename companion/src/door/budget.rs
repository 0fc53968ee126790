//! Places among the requests at work: a number for each kind, half of it for each client.

use std::sync::Arc;

use super::credentials::Caller;
use super::kept::{Kept, Share};
use super::need::Kind;

/// Concurrent reports and heartbeats.
pub(crate) const REPORTS_MAX: usize = 512;
/// Concurrent reads.
pub(crate) const READS_MAX: usize = 256;
/// Concurrent writes.
pub(crate) const WRITES_MAX: usize = 512;
/// Concurrent reads of clients without a credential, if others have one.
pub(crate) const STRANGERS_MAX: usize = 64;
/// Open streams of events and of changes.
pub(crate) const EVENT_STREAMS_MAX: usize = 256;
/// Concurrent reads of readiness and metrics.
pub(crate) const LOOKS_MAX: usize = 32;

/// The places of all kinds.
#[derive(Debug)]
pub(crate) struct Budget {
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
    /// A place for a request. `has_credentials` says whether other clients have a credential.
    pub(crate) fn take(&self, kind: Kind, caller: &Caller, has_credentials: bool) -> Option<Share> {
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
