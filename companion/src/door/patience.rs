//! How long the other end of a connection may take: to send the head of a request, to send the next one, and to
//! read an answer. The body of a request has a timeout of its own, equal to that of a request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use crate::clock::timer;

/// How long the head of a request may take from its first byte on, and how long the first byte of the first request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle between two requests. Longer than filters' longest interval.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long an answer may wait while the client takes no byte of it.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The event that the connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The rest of a head.
    Head = 0,
    /// The answer of a request; or the connection is of a kind with its own rules.
    Busy = 1,
    /// The next request.
    Idle = 2,
}

/// The phase. The stream reads it, and the server of the connection sets it.
#[derive(Debug, Default)]
pub(crate) struct Line(AtomicU64);

impl Line {
    pub(crate) fn set(&self, phase: Phase) {
        let next = |line| Some(((line >> PHASE_BITS) + 1) << PHASE_BITS | phase as u64);
        // There is always a next phase.
        let _last = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// The phase, and a number that no other has, so that a phase that came again has a time of its own.
    fn get(&self) -> (Phase, u64) {
        let line = self.0.load(Ordering::Acquire);
        let phase = match line & ((1 << PHASE_BITS) - 1) {
            0 => Phase::Head,
            1 => Phase::Busy,
            _ => Phase::Idle,
        };
        (phase, line)
    }
}

/// The lowest bits of a line are its phase, the others count the changes.
const PHASE_BITS: u32 = 2;

/// A connection whose other end has limited time.
pub(crate) struct Patient<S> {
    inner: S,
    line: Arc<Line>,
    /// After this many bytes the phase stays [`Phase::Busy`].
    free_after: Option<usize>,
    read: Timer,
    write: Timer,
    /// How many clients were too slow.
    slow: Counter<u64>,
}

struct Timer {
    sleep: Pin<Box<Sleep>>,
    of: Option<u64>,
}

impl Timer {
    fn new() -> Self {
        let sleep = Box::pin(sleep_until(timer()));
        Self { sleep, of: None }
    }

    /// Ready once the time for this wait is over.
    fn poll(&mut self, context: &mut Context<'_>, of: u64, limit: Duration) -> Poll<()> {
        if self.of != Some(of) {
            self.of = Some(of);
            self.sleep.as_mut().reset(timer() + limit);
        }
        self.sleep.as_mut().poll(context)
    }
}

impl<S> Patient<S> {
    /// A connection that carries requests one after the other.
    pub(crate) fn new(inner: S, line: Arc<Line>, slow: Counter<u64>) -> Self {
        Self {
            inner,
            line,
            free_after: None,
            read: Timer::new(),
            write: Timer::new(),
            slow,
        }
    }

    /// A connection whose protocol has timeouts of its own, once it has begun with this many bytes.
    pub(crate) fn free_after(self, bytes: usize) -> Self {
        Self {
            free_after: Some(bytes),
            ..self
        }
    }

    fn heard(&mut self, bytes: usize) {
        if let Some(left) = self.free_after {
            self.free_after = Some(left.saturating_sub(bytes));
            if left > 0 && bytes >= left {
                self.line.set(Phase::Busy);
            }
            return;
        }
        if bytes > 0 && self.line.get().0 == Phase::Idle {
            self.line.set(Phase::Head);
        }
    }
}

fn too_slow(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what.to_owned())
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(done) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            self.heard(buffer.filled().len() - before);
            return Poll::Ready(done);
        }
        let (phase, change) = self.line.get();
        let limit = match phase {
            Phase::Busy => return Poll::Pending,
            Phase::Head => HEAD_TIMEOUT,
            Phase::Idle => IDLE_TIMEOUT,
        };
        ready!(self.read.poll(context, change, limit));
        if phase == Phase::Head {
            self.slow.inc();
        }
        Poll::Ready(Err(too_slow("no request came in time")))
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    /// The result of a write; a write that waits too long is an error.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.write.of = None;
            return done;
        }
        ready!(self.write.poll(context, 0, WRITE_TIMEOUT));
        self.slow.inc();
        Poll::Ready(Err(too_slow("the answer was not read in time")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.written(context, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_flush(context);
        self.written(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(context);
        self.written(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.written(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{advance, timeout};

    use super::*;

    fn pair() -> (
        tokio::io::DuplexStream,
        Patient<tokio::io::DuplexStream>,
        Arc<Line>,
    ) {
        let (theirs, ours) = duplex(64);
        let line = Arc::new(Line::default());
        let ours = Patient::new(ours, Arc::clone(&line), Counter::default());
        (theirs, ours, line)
    }

    async fn is_over(ours: &mut (impl AsyncRead + Unpin), after: Duration) -> bool {
        let read = timeout(after, ours.read_u8()).await;
        matches!(read, Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_byte_by_byte_has_no_more_time() {
        let (mut theirs, mut ours, _) = pair();
        for _ in 0..9 {
            theirs.write_all(b"x").await.unwrap();
            ours.read_u8().await.unwrap();
            assert!(!is_over(&mut ours, Duration::from_secs(1)).await);
        }
        assert!(is_over(&mut ours, Duration::from_secs(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_has_its_own_time_and_an_idle_connection_much() {
        let (mut theirs, mut ours, line) = pair();
        line.set(Phase::Busy);
        assert!(!is_over(&mut ours, Duration::from_secs(3600)).await);
        line.set(Phase::Idle);
        assert!(!is_over(&mut ours, IDLE_TIMEOUT - HEAD_TIMEOUT).await);
        theirs.write_all(b"x").await.unwrap();
        ours.read_u8().await.unwrap();
        assert!(is_over(&mut ours, HEAD_TIMEOUT + Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_let_go() {
        let (_theirs, mut ours, _) = pair();
        ours.write_all(&[0; 64]).await.unwrap();
        let write = tokio::spawn(async move { ours.write_all(&[0; 64]).await });
        advance(WRITE_TIMEOUT + Duration::from_secs(1)).await;
        let error = write.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_protocol_with_its_own_rules_is_free_after_its_first_bytes() {
        let (mut theirs, ours, _) = pair();
        let mut ours = ours.free_after(3);
        theirs.write_all(b"ab").await.unwrap();
        ours.read_u16().await.unwrap();
        assert!(is_over(&mut ours, HEAD_TIMEOUT + Duration::from_secs(1)).await);
        let (mut theirs, ours, _) = pair();
        let mut ours = ours.free_after(2);
        theirs.write_all(b"ab").await.unwrap();
        ours.read_u16().await.unwrap();
        assert!(!is_over(&mut ours, Duration::from_secs(3600)).await);
    }
}
