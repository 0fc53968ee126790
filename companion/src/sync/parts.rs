//! The parts of the process that sync uses.

use std::sync::Arc;

use tokio::sync::Notify;

use super::gossip::Gathering;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The parts of the process that a driver uses.
#[derive(Clone)]
pub(crate) struct Parts {
    pub store: Arc<dyn Store>,
    /// Notified of every event that is stored.
    pub events_changed: Arc<Notify>,
    /// Fixed data of other units while their parts arrive.
    pub fixed: Gathering,
    pub metrics: Arc<Metrics>,
}

/// The store's answer. A failure is logged here, once.
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
