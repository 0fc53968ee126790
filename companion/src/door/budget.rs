//! Places among the requests that are worked on: some for each kind, half of these for each client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::credentials::{Caller, Principal};
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

/// Places of one kind.
#[derive(Debug)]
pub struct Places {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: BTreeMap<Principal, usize>,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub struct Taking {
    places: Arc<Places>,
    by: Principal,
}

impl Places {
    /// So many.
    pub fn new(max: usize) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { max, taken })
    }

    /// A place for a client, or `None` if it has half of them, or all are taken.
    pub fn take(self: &Arc<Self>, by: Principal) -> Option<Taking> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by.get(&by).copied().unwrap_or(0);
        if taken.all >= self.max || own >= self.max / 2 {
            return None;
        }
        taken.all += 1;
        taken.by.insert(by.clone(), own + 1);
        drop(taken);
        let places = Arc::clone(self);
        Some(Taking { places, by })
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let taken = self.places.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        match taken.by.get(&self.by).copied().unwrap_or(0) {
            0 | 1 => drop(taken.by.remove(&self.by)),
            own => drop(taken.by.insert(self.by.clone(), own - 1)),
        }
    }
}

/// The places of all kinds.
#[derive(Debug)]
pub struct Budget {
    reports: Arc<Places>,
    reads: Arc<Places>,
    writes: Arc<Places>,
    looks: Arc<Places>,
    strangers: Arc<Places>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            reports: Places::new(REPORTS_MAX),
            reads: Places::new(READS_MAX),
            writes: Places::new(WRITES_MAX),
            looks: Places::new(LOOKS_MAX),
            strangers: Places::new(STRANGERS_MAX),
        }
    }
}

impl Budget {
    /// A place for a request. `has_credentials` tells whether others have one.
    pub fn take(&self, kind: Kind, caller: &Caller, has_credentials: bool) -> Option<Taking> {
        let places = match kind {
            _ if has_credentials && !caller.is_known() => &self.strangers,
            Kind::Report => &self.reports,
            Kind::Read => &self.reads,
            Kind::Write => &self.writes,
            Kind::Look => &self.looks,
        };
        places.take(caller.principal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_at_most_half_of_the_places() {
        let places = Places::new(4);
        let by = |name: &str| Principal::Credential(name.to_owned());
        let taken: Vec<Option<Taking>> = (0..3).map(|_| places.take(by("a"))).collect();
        assert_eq!(taken.iter().flatten().count(), 2);
        let others = (places.take(by("b")), places.take(by("c")));
        assert!(others.0.is_some() && others.1.is_some() && places.take(by("d")).is_none());
        drop(taken);
        assert!(places.take(by("d")).is_some());
    }
}
