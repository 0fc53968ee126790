//! What sync touches of the rest of the process.

use std::sync::Arc;

use tokio::sync::Notify;

use super::gossip::Gathering;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// What a driver touches.
#[derive(Clone)]
pub struct Parts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Told of every event that is stored.
    pub events_changed: Arc<Notify>,
    /// Fixed data of other units on their way in.
    pub fixed: Gathering,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What the store answered; why it did not is logged here, once.
pub(super) fn seen<T>(answer: Result<T, StoreError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.is_transient() => {
            tracing::debug!(%error, "sync waits for the store");
            None
        }
        Err(error) => {
            tracing::error!(%error, "sync can't use the store");
            None
        }
    }
}
