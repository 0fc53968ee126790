//! Connections of the listening address → connections that the gRPC server takes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

use crate::door::listener::{Listener, Peer, Stream as Transport};
use crate::door::patience::{Line, Patient};

/// The bytes with which HTTP/2 begins; from then on it asks by itself whether the other end is there.
const PREFACE_BYTES: usize = 24;
/// Connections that wait for the server to take them.
const WAITING: usize = 16;

/// A connection of an Envoy.
pub(super) struct Connection {
    inner: Patient<Transport>,
    peer: Arc<Peer>,
    /// Ready once the connection has to make room.
    lost: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The connections, for ever.
pub(super) fn incoming(listener: Listener) -> impl Stream<Item = io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let accepting = async move {
        loop {
            let arrival = listener.next().await;
            let sender = sender.clone();
            if sender.is_closed() {
                return;
            }
            // So that a client that stalls the TLS handshake delays no other client.
            tokio::spawn(async move {
                let Some((stream, peer)) = arrival.agreed().await else {
                    return;
                };
                let peer = Arc::new(peer);
                let ours = Arc::clone(&peer);
                let slow = peer.metrics.connections_too_slow.clone();
                let connection = Connection {
                    inner: Patient::new(stream, Arc::new(Line::default()), slow)
                        .free_after(PREFACE_BYTES),
                    lost: Box::pin(async move { ours.place.lost().await }),
                    peer,
                };
                // The server has stopped.
                drop(sender.send(Ok(connection)).await);
            });
        }
    };
    let accepting = Accepting(tokio::spawn(accepting));
    stream::unfold((receiver, accepting), |(mut receiver, accepting)| async {
        let next = receiver.recv().await?;
        Some((next, (receiver, accepting)))
    })
}

/// Accepting ends with the server.
struct Accepting(tokio::task::JoinHandle<()>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.lost.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
