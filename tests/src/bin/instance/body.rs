//! The body of an answer: one piece, at once or after a delay. Its request is in flight while the body
//! lives.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Sleep;

use crate::counter::Counted;

/// A body whose length is known when the headers are sent.
#[derive(Debug)]
pub(crate) struct Tail {
    bytes: Option<Bytes>,
    wait: Option<Pin<Box<Sleep>>>,
    _counted: Option<Counted>,
}

impl Tail {
    pub(crate) fn at_once(bytes: impl Into<Bytes>, counted: Option<Counted>) -> Self {
        Self {
            bytes: Some(bytes.into()),
            wait: None,
            _counted: counted,
        }
    }

    /// Sends the body after this delay.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.wait = Some(Box::pin(tokio::time::sleep(delay)));
        self
    }
}

impl Body for Tail {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(wait) = &mut self.wait
            && wait.as_mut().poll(context).is_pending()
        {
            return Poll::Pending;
        }
        self.wait = None;
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.bytes.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(left).unwrap_or(u64::MAX))
    }
}
