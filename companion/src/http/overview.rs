//! The fleet as `/metrics` shows it, cached: every report of every Envoy is read for it.
//!
//! Invariant: looks take at most a fiftieth of a core, however large the fleet is and however often somebody asks.
//! The price is the age of what is shown: what takes 10 ms to read is at most half a second old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::services;
use crate::metrics::{ShownInstance, ShownService};
use crate::store::{Fleet, StoreError};

/// A look counts for so many times the time that it took.
const TIMES: u32 = 50;

/// Services and instances at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) services: Vec<ShownService>,
    pub(super) instances: Vec<ShownInstance>,
}

/// The last look, and until when it counts.
#[derive(Debug, Default)]
pub struct Overview(Mutex<Option<(Instant, Arc<Seen>)>>);

impl Overview {
    pub(super) async fn look(&self, fleet: &dyn Fleet) -> Result<Arc<Seen>, StoreError> {
        // Held while the store is read: whoever asks meanwhile gets the same answer.
        let mut last = self.0.lock().await;
        let now = Instant::now();
        if let Some((until, seen)) = &*last
            && now < *until
        {
            return Ok(Arc::clone(seen));
        }
        let (services, instances) = services::shown(fleet).await?;
        let seen = Arc::new(Seen {
            services,
            instances,
        });
        let took: Duration = now.elapsed();
        let until = Instant::now() + took * TIMES;
        *last = Some((until, Arc::clone(&seen)));
        Ok(seen)
    }
}
