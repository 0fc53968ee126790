//! The tally of this process, and the guard that counts every end of a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use unitring_tests::tally::{Load, Tally};

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Counter {
    started: Instant,
    tally: Mutex<Tally>,
    /// Added to the duration of every request.
    slow_ms: AtomicU64,
    /// The status of every answer; 0 for success.
    fails_with: AtomicU64,
    /// Permits of the requests in progress; the other requests wait, and count as in flight.
    workers: Mutex<Arc<Semaphore>>,
    /// Lets the answers end that were held.
    release: watch::Sender<()>,
}

impl Counter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            tally: Mutex::default(),
            slow_ms: AtomicU64::new(0),
            fails_with: AtomicU64::new(0),
            workers: Mutex::new(Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))),
            release: watch::Sender::new(()),
        })
    }

    pub(crate) fn release(&self) {
        self.release.send_replace(());
    }

    /// Ends at the next release.
    pub(crate) fn next_release(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut release = self.release.subscribe();
        async move { drop(release.changed().await) }
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn count(self: &Arc<Self>) -> Counted {
        self.tally().start(self.started.elapsed());
        Counted(Arc::clone(self))
    }

    pub(crate) fn load(&self) -> Load {
        self.tally().load(self.started.elapsed())
    }

    pub(crate) fn reset(&self) {
        self.tally().reset(self.started.elapsed());
    }

    pub(crate) fn service_time(&self) -> Duration {
        Duration::from_millis(self.slow_ms.load(Ordering::Relaxed))
    }

    /// The status of every answer, if the instance is set to fail.
    pub(crate) fn failure(&self) -> Option<u64> {
        Some(self.fails_with.load(Ordering::Relaxed)).filter(|status| *status != 0)
    }

    pub(crate) fn fail(&self, status: u64) {
        self.fails_with.store(status, Ordering::Relaxed);
    }

    /// Waits for a free worker for a request.
    pub(crate) async fn worker(&self) -> Option<OwnedSemaphorePermit> {
        let workers = Arc::clone(&self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        workers.acquire_owned().await.ok()
    }

    pub(crate) fn slow_down(&self, ms: u64, workers: Option<usize>) {
        self.slow_ms.store(ms, Ordering::Relaxed);
        let workers = workers.unwrap_or(Semaphore::MAX_PERMITS);
        *self.workers.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Semaphore::new(workers.min(Semaphore::MAX_PERMITS)));
    }

    /// The lock is usable after a panic, since the numbers are consistent at any time.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request in flight. Hyper drops it with the handler or the body when the client goes away.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Counter>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tally().end(self.0.started.elapsed());
    }
}
