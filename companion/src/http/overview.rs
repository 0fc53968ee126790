//! The fleet as `/metrics` shows it, cached: every report of every Envoy is read for it.
//!
//! Invariant: looks take at most a hundredth of a core, however large the fleet is and however often a client asks: there
//! is one look at a time, it ends even if no client waits for it, and it counts for a hundred times what it took. The
//! price is the age of what is shown: what takes 10 ms to read is at most a second old.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::services;
use crate::clock;
use crate::metrics::{ShownInstance, ShownService};
use crate::store::{Store, StoreError};

/// A look counts for this many times the time that it took.
const TIMES: u32 = 100;
/// A failed look is not repeated for this long.
const FAILED_FOR: Duration = Duration::from_millis(200);

/// Services and instances at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) services: Vec<ShownService>,
    pub(super) instances: Vec<ShownInstance>,
}

/// The last look, and whose turn it is to look.
#[derive(Debug, Default)]
pub(crate) struct Overview {
    last: Mutex<Option<Last>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Last {
    until: Instant,
    seen: Arc<Seen>,
}

impl Overview {
    /// The fleet, from a look that ends within `patience`, else from the last one. Empty while the store is away.
    pub(super) async fn look(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        patience: Duration,
    ) -> Arc<Seen> {
        let is_fresh = |last: &Last| clock::now() < last.until;
        let is_due = !self.with(|last| last.as_ref().is_some_and(is_fresh));
        if is_due && let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
            let (overview, store) = (Arc::clone(self), Arc::clone(store));
            let look = tokio::spawn(async move {
                let began = clock::now();
                let seen = read(&*store).await;
                overview.keep(seen, clock::since(began));
                drop(turn);
            });
            // A look that takes longer is kept for the next request.
            drop(timeout(patience, look).await);
        }
        self.with(|last| {
            last.as_ref()
                .map_or_else(Arc::default, |last| Arc::clone(&last.seen))
        })
    }

    fn with<T>(&self, look: impl FnOnce(&Option<Last>) -> T) -> T {
        look(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, seen: Result<Seen, StoreError>, took: Duration) {
        let (seen, counts_for) = match seen {
            Ok(seen) => (seen, took * TIMES),
            Err(error) => {
                tracing::debug!(%error, "the metrics of the fleet wait for the store");
                (Seen::default(), FAILED_FOR)
            }
        };
        let until = clock::now() + counts_for;
        let seen = Arc::new(seen);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Last { until, seen });
    }
}

async fn read(store: &dyn Store) -> Result<Seen, StoreError> {
    let (services, instances) = services::shown(store).await?;
    Ok(Seen {
        services,
        instances,
    })
}
