//! A listening address → connections, each with a place among the others, encrypted if the settings say so.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificates::names;
use super::connections::{Connections, Place, Room};
use super::credentials::Principal;
use super::patience::HEAD_TIMEOUT;
use super::strain::Strain;
use crate::clock::now_ms;
use crate::metrics::Metrics;

/// The certificates in force; `None` for plain connections.
pub(crate) type Certificates = watch::Receiver<Option<Arc<ServerConfig>>>;

/// How long accepting pauses if the system gives no connection, as without a free descriptor.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Listener {
    listener: TcpListener,
    connections: Arc<Connections>,
    certificates: Certificates,
    metrics: Arc<Metrics>,
    strain: Arc<Strain>,
}

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub address: SocketAddr,
    /// The names in its certificate, if it has shown one.
    pub certificate_names: Vec<String>,
    /// Its place among the connections.
    pub place: Place,
    /// Counts clients that are too slow.
    pub(crate) metrics: Arc<Metrics>,
    refusals: AtomicU32,
}

/// A request or stream that was let in; until it is dropped, its connection counts as at work.
#[derive(Debug)]
pub(crate) struct LetIn(Arc<Peer>);

impl LetIn {
    /// Counts a request or stream of a client as begun.
    pub(crate) fn new(peer: &Arc<Peer>, by: &Principal) -> Self {
        peer.place.begins(by);
        Self(Arc::clone(peer))
    }
}

impl Drop for LetIn {
    fn drop(&mut self) {
        self.0.place.ends();
    }
}

impl Peer {
    /// Counts a refusal of one of its requests; returns the number of refusals so far.
    pub(crate) fn refuse(&self) -> u32 {
        self.refusals
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }
}

/// A connection whose encryption is not agreed on yet.
pub(crate) struct Arrival {
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    certificates: Option<Arc<ServerConfig>>,
    metrics: Arc<Metrics>,
}

/// A connection, plain or encrypted.
pub(crate) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Listener {
    /// A listening address with a limit of connections.
    pub(crate) fn new(
        listener: TcpListener,
        max: usize,
        certificates: Certificates,
        metrics: Arc<Metrics>,
        strain: Arc<Strain>,
    ) -> Self {
        Self {
            listener,
            connections: Connections::new(max),
            certificates,
            metrics,
            strain,
        }
    }

    /// The next connection.
    pub(crate) async fn next(&self) -> Arrival {
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.accept_failed(&error).await;
                    continue;
                }
            };
            let Some((place, room)) = self.connections.enter(address.ip().into()) else {
                self.metrics.connections_refused.inc();
                self.strain.felt(now_ms());
                continue;
            };
            if room == Room::Made {
                self.strain.felt(now_ms());
                self.told(address);
            }
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection was closed before it could be set up");
                continue;
            }
            return Arrival {
                stream,
                address,
                place,
                certificates: self.certificates.borrow().clone(),
                metrics: Arc::clone(&self.metrics),
            };
        }
    }

    async fn accept_failed(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted
        ) {
            return;
        }
        if self.metrics.accepts_failed.inc() == 0 {
            tracing::error!(%error, "a connection could not be accepted; further ones are counted only");
        }
        sleep(PAUSE).await;
    }

    /// Logs the first of a hundred.
    fn told(&self, address: SocketAddr) {
        if self.metrics.connections_displaced.inc().is_multiple_of(100) {
            let max = self.connections.max();
            tracing::warn!(
                %address,
                max,
                "the maximum number of connections is open, or half of it for one client: the quietest connection is closed"
            );
        }
    }
}

impl Arrival {
    /// Agrees on encryption, if the settings say so; `None` if the other end does not.
    pub(crate) async fn agreed(self) -> Option<(Stream, Peer)> {
        let Self {
            stream,
            address,
            place,
            certificates,
            metrics,
        } = self;
        let mut certificate_names = Vec::new();
        let stream = match certificates {
            None => Stream::Plain(stream),
            Some(config) => {
                let agreeing = timeout(HEAD_TIMEOUT, TlsAcceptor::from(config).accept(stream));
                let agreed = tokio::select! {
                    agreed = agreeing => agreed,
                    () = place.lost() => return None,
                };
                match agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(stream) => {
                        certificate_names = names(stream.get_ref().1.peer_certificates());
                        Stream::Encrypted(Box::new(stream))
                    }
                    Err(error) => {
                        metrics.handshakes_failed.inc();
                        tracing::debug!(%address, %error, "the TLS handshake failed");
                        return None;
                    }
                }
            }
        };
        let peer = Peer {
            address,
            certificate_names,
            place,
            metrics,
            refusals: AtomicU32::new(0),
        };
        Some((stream, peer))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Encrypted(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}
