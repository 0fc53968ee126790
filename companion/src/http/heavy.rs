//! Work that takes a core for a while: rings that are built to explain a choice. It is done away from the threads
//! that answer requests, one at a time, and not at all for a client that no longer waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use tokio::sync::Semaphore;

use super::answer::Refusal;
use crate::door::Caller;
use crate::door::kept::Kept;
use crate::metrics::Metrics;

/// Most requests that wait for such work.
pub(crate) const WAITING_MAX: usize = 16;

/// Runs one piece of such work at a time, and bounds the requests that wait for it.
#[derive(Debug)]
pub(crate) struct Heavy {
    at_once: Arc<Semaphore>,
    waiting: Arc<Kept>,
}

impl Default for Heavy {
    fn default() -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(1)),
            waiting: Kept::new(WAITING_MAX),
        }
    }
}

/// Says, once it is dropped, that its request waits no more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Heavy {
    /// Does it, or refuses if too many wait.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        metrics: &Metrics,
        caller: &Caller,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let busy = || {
            metrics.questions_refused.inc();
            let error =
                format!("busy: at most {WAITING_MAX} such questions, half of them of one client");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
        };
        let _place = self.waiting.place(caller.principal()).ok_or_else(busy)?;
        let turn = Arc::clone(&self.at_once).acquire_owned().await;
        let turn = turn.map_err(|_| busy())?;
        let is_gone = Arc::new(AtomicBool::new(false));
        let _waiting = Waiting(Arc::clone(&is_gone));
        let done = tokio::task::spawn_blocking(move || {
            // The turn stays taken until the work is done, even if the request is gone.
            let _turn = turn;
            (!is_gone.load(Ordering::Relaxed)).then(work)
        });
        done.await.ok().flatten().ok_or_else(busy)
    }
}
