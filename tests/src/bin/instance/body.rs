//! The body of an answer: pieces, at once, with a pause before each, or from a moment on. Its request is in flight
//! while the body lives.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::counter::Counted;

/// The next part of the body.
#[derive(Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The connection breaks.
    Abort,
}

/// What the next piece waits for.
struct Wait(Pin<Box<dyn Future<Output = ()> + Send>>);

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}

/// A body.
#[derive(Debug)]
pub(crate) struct Tail {
    pieces: VecDeque<Piece>,
    /// Whether its length is known when the headers are sent.
    is_exact: bool,
    pause: Duration,
    wait: Option<Wait>,
    _counted: Option<Counted>,
}

impl Tail {
    pub(crate) fn at_once(bytes: impl Into<Bytes>, counted: Option<Counted>) -> Self {
        let bytes = bytes.into();
        let pieces = (!bytes.is_empty()).then_some(Piece::Data(bytes));
        Self {
            pieces: pieces.into_iter().collect(),
            is_exact: true,
            pause: Duration::ZERO,
            wait: None,
            _counted: counted,
        }
    }

    /// Waits this long before each piece.
    pub(crate) fn after(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Waits for this before the first piece.
    pub(crate) fn from(mut self, moment: impl Future<Output = ()> + Send + 'static) -> Self {
        self.wait = Some(Wait(Box::pin(moment)));
        self
    }

    /// In this many chunks, without a length in the headers.
    pub(crate) fn in_chunks(mut self, count: usize) -> Self {
        self.is_exact = false;
        let pieces = self.pieces.drain(..).flat_map(|piece| match piece {
            Piece::Data(bytes) => {
                let size = bytes.len().div_ceil(count.max(1)).max(1);
                let chunks = bytes.chunks(size);
                chunks
                    .map(|chunk| Piece::Data(Bytes::copy_from_slice(chunk)))
                    .collect()
            }
            other => vec![other],
        });
        self.pieces = pieces.collect();
        self
    }

    pub(crate) fn and_trailers(mut self, trailers: HeaderMap) -> Self {
        self.is_exact = false;
        self.pieces.push_back(Piece::Trailers(trailers));
        self
    }

    /// With a broken connection in place of the last piece.
    pub(crate) fn aborted(mut self) -> Self {
        self.is_exact = false;
        self.pieces.pop_back();
        self.pieces.push_back(Piece::Abort);
        self
    }
}

impl Body for Tail {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.pieces.is_empty() {
            return Poll::Ready(None);
        }
        let pause = self.pause;
        if !pause.is_zero() {
            let sleep = || Wait(Box::pin(tokio::time::sleep(pause)));
            self.wait.get_or_insert_with(sleep);
        }
        if let Some(Wait(wait)) = &mut self.wait
            && wait.as_mut().poll(context).is_pending()
        {
            return Poll::Pending;
        }
        self.wait = None;
        Poll::Ready(self.pieces.pop_front().map(|piece| match piece {
            Piece::Data(bytes) => Ok(Frame::data(bytes)),
            Piece::Trailers(trailers) => Ok(Frame::trailers(trailers)),
            Piece::Abort => Err(io::Error::other("an abort was asked for")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.is_exact {
            return SizeHint::default();
        }
        let lengths = self.pieces.iter().map(|piece| match piece {
            Piece::Data(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Piece::Trailers(_) | Piece::Abort => 0,
        });
        SizeHint::with_exact(lengths.sum())
    }
}
