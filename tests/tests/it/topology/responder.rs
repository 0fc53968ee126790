//! The server behind all hosts of one Envoy: it answers each address's health checks and requests as
//! configured for that cluster, and counts the checks.
//!
//! A check requests `/check/<number of the cluster>`; a request has that number in `x-case`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::address::Address;

/// The answer to health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) enum Check {
    #[default]
    Passes,
    Fails,
    /// The check passes, with `x-envoy-degraded`.
    Degraded,
    /// The check fails, with `x-envoy-immediate-health-check-fail`.
    Leaves,
    /// The check gets no answer.
    Silent,
}

/// The answer to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) enum Request {
    #[default]
    Served,
    Fails,
    /// The request succeeds, with `x-envoy-degraded`.
    Degraded,
}

/// The number of a cluster, and an address of a host in it.
pub(super) type Place = (usize, String);

#[derive(Debug, Default)]
struct Conduct {
    check: Check,
    request: Request,
    /// Checks answered since `check` was set.
    answered: u64,
}

type Conducts = Arc<Mutex<BTreeMap<Place, Conduct>>>;

#[derive(Debug)]
pub(super) struct Responder {
    conducts: Conducts,
    /// Wakes the checks that wait without an answer.
    told: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Responder {
    pub(super) fn new() -> Self {
        Self {
            conducts: Arc::default(),
            told: watch::Sender::new(()),
            tasks: JoinSet::new(),
        }
    }

    /// Listens at all of these addresses, or at none.
    ///
    /// # Errors
    /// An address is taken. A machine without IPv6 has no such address, and no server listens there.
    pub(super) fn listen(&mut self, addresses: &[Address]) -> Result<()> {
        let mut tcp = Vec::new();
        let mut unix = Vec::new();
        for address in addresses {
            match address {
                Address::Tcp(at)
                    if at.is_ipv6() && std::net::TcpListener::bind((at.ip(), 0)).is_err() => {}
                Address::Tcp(at) => tcp.push((address.to_string(), bind(*at)?)),
                Address::Socket(path) => {
                    unix.push((address.to_string(), UnixListener::bind(path)?))
                }
                Address::Scoped(_) | Address::Internal(_) => {}
            }
        }
        for (name, listener) in tcp {
            let (conducts, told) = (Arc::clone(&self.conducts), self.told.clone());
            self.tasks.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    drop(stream.set_nodelay(true));
                    tokio::spawn(serve(
                        stream,
                        name.clone(),
                        Arc::clone(&conducts),
                        told.subscribe(),
                    ));
                }
            });
        }
        for (name, listener) in unix {
            let (conducts, told) = (Arc::clone(&self.conducts), self.told.clone());
            self.tasks.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(
                        stream,
                        name.clone(),
                        Arc::clone(&conducts),
                        told.subscribe(),
                    ));
                }
            });
        }
        Ok(())
    }

    /// Sets the answer to checks at a place from now on.
    pub(super) fn tell_check(&self, place: Place, check: Check) {
        let mut conducts = lock(&self.conducts);
        let conduct = conducts.entry(place).or_default();
        if conduct.check != check {
            conduct.check = check;
            conduct.answered = 0;
        }
        drop(conducts);
        self.told.send_replace(());
    }

    /// Sets the answer to requests at a place from now on.
    pub(super) fn tell_request(&self, place: Place, request: Request) {
        lock(&self.conducts).entry(place).or_default().request = request;
    }

    /// Resets the counts of answered checks.
    pub(super) fn count_anew(&self) {
        for conduct in lock(&self.conducts).values_mut() {
            conduct.answered = 0;
        }
    }

    /// Whether checks at a place get an answer.
    pub(super) fn answers_checks(&self, place: &Place) -> bool {
        lock(&self.conducts)
            .get(place)
            .is_none_or(|conduct| conduct.check != Check::Silent)
    }

    /// How many checks were answered at a place.
    pub(super) fn answered(&self, place: &Place) -> u64 {
        lock(&self.conducts)
            .get(place)
            .map_or(0, |conduct| conduct.answered)
    }
}

fn lock(conducts: &Conducts) -> MutexGuard<'_, BTreeMap<Place, Conduct>> {
    conducts.lock().expect("nobody panics with it")
}

/// A socket whose address can be bound again at once.
fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| address.to_string())?;
    Ok(socket.listen(1_024)?)
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: String,
    conducts: Conducts,
    mut told: watch::Receiver<()>,
) {
    let mut stream = BufReader::new(stream);
    // The stream ends when the other side closes it.
    while let Some(asked) = read(&mut stream).await {
        let answer = match asked {
            Asked::Check(cluster) => check(&(cluster, address.clone()), &conducts, &mut told).await,
            Asked::Request(cluster) => {
                let place = (cluster, address.clone());
                lock(&conducts)
                    .get(&place)
                    .map_or(Request::Served, |conduct| conduct.request)
                    .answer()
            }
        };
        if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn check(place: &Place, conducts: &Conducts, told: &mut watch::Receiver<()>) -> &'static str {
    loop {
        told.mark_unchanged();
        {
            let mut conducts = lock(conducts);
            let conduct = conducts.entry(place.clone()).or_default();
            if let Some(answer) = conduct.check.answer() {
                conduct.answered += 1;
                return answer;
            }
        }
        if told.changed().await.is_err() {
            return "";
        }
    }
}

enum Asked {
    Check(usize),
    Request(usize),
}

/// The head of the next request; no request has a body.
async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Asked> {
    let (mut line, mut asked) = (String::new(), None);
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let text = line.trim_end();
        if text.is_empty() {
            return asked;
        }
        if let Some(path) = text.strip_prefix("GET /check/") {
            asked = Some(Asked::Check(path.split(' ').next()?.parse().ok()?));
        } else if let Some(cluster) = text.strip_prefix("x-case: ") {
            asked = Some(Asked::Request(cluster.parse().ok()?));
        }
    }
}

impl Check {
    fn answer(self) -> Option<&'static str> {
        match self {
            Self::Passes => Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            Self::Degraded => {
                Some("HTTP/1.1 200 OK\r\nx-envoy-degraded: 1\r\ncontent-length: 0\r\n\r\n")
            }
            Self::Fails => Some("HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n"),
            Self::Leaves => Some(
                "HTTP/1.1 503 Unavailable\r\nx-envoy-immediate-health-check-fail: 1\r\ncontent-length: 0\r\n\r\n",
            ),
            Self::Silent => None,
        }
    }
}

impl Request {
    fn answer(self) -> &'static str {
        match self {
            Self::Served => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Self::Fails => "HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n",
            Self::Degraded => "HTTP/1.1 200 OK\r\nx-envoy-degraded: 1\r\ncontent-length: 0\r\n\r\n",
        }
    }
}
