//! Links through RabbitMQ: a connection to each other unit's queue, and one to our own.
//!
//! Topic exchange `unitring.sync`; per unit a quorum queue `unitring.sync.<unit>`, bound to `to.<unit>`. All
//! queues may be at one broker, or each at its unit's own: whoever sends connects to where the queue
//! is. A connection of its own for each, so that a broker that slows one of them down, or takes nothing
//! more, slows no other.
//!
//! Invariant: a message counts as published only if the broker confirmed it and did not return it.
//! A connection is made anew for ever, with everything declared anew; lapin's own recovery
//! gives up after some tries and is not used.

mod inbox;
mod publisher;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use unitring_protocol::ids::UnitId;

use super::Links;
use crate::config::{TlsFiles, Url};

/// How long each step from nothing to a session may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the broker may take to confirm a message. Then the session is over, and what was in
/// doubt goes out again in the next one.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the broker may take to end a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between two tries: doubles from the first to the last, give or take a quarter.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// Messages that may wait for a link. The state machine keeps far below it, but for what is told again soon.
pub const MESSAGES_MAX: usize = 256;
/// Events that may wait for the driver.
pub const EVENTS_MAX: usize = 256;

/// What the links need to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This unit, and where its queue is.
    pub unit: (UnitId, Url),
    /// The others, and where theirs are.
    pub peers: BTreeMap<UnitId, Url>,
    /// Those who left the group: their queues at our broker go.
    pub removed: BTreeSet<UnitId>,
    /// For `amqps://`.
    pub tls: Tls,
    /// Bytes that a queue holds; more are refused, and wait at their sender.
    pub queue_bytes_max: u64,
}

/// What TLS to brokers needs, from files that are read once, at start.
#[derive(Clone, Default)]
pub struct Tls {
    roots: Option<String>,
    /// A certificate and its key, PEM.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first that can't be read, with why.
    pub fn read(files: &TlsFiles) -> Result<Self, crate::tls::FileError> {
        crate::tls::choose_provider();
        let roots = files.ca.as_deref().map(crate::tls::read).transpose()?;
        let identity = match &files.identity {
            Some((certificate, key)) => {
                Some((crate::tls::read(certificate)?, crate::tls::read(key)?))
            }
            None => None,
        };
        Ok(Self {
            roots: roots.map(|roots| String::from_utf8_lossy(&roots).into_owned()),
            identity,
        })
    }

    fn config(&self) -> OwnedTLSConfig {
        let identity = self.identity.clone();
        OwnedTLSConfig {
            identity: identity.map(|(pem, key)| OwnedIdentity::PKCS8 { pem, key }),
            cert_chain: self.roots.clone(),
        }
    }
}

/// Why there is no session, or no more.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    /// The broker said no, or nothing at all.
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    /// It went silent.
    #[error("{0}: no answer within {1:?}")]
    Silent(&'static str, Duration),
    /// It would not keep a message that nobody can read.
    #[error("the queue for messages that cannot be read does not take one")]
    NotSetAside,
}

/// One step, in bounded time.
async fn step<T>(
    name: &'static str,
    work: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, SessionError> {
    let done = tokio::time::timeout(STEP_TIMEOUT, work).await;
    Ok(done.map_err(|_| SessionError::Silent(name, STEP_TIMEOUT))??)
}

/// Starts all of them; they run until what is answered is dropped.
pub fn start(settings: &Settings) -> Links {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    // The broker sends no more than it may without an acknowledgement, and each has one verdict.
    let (verdicts, judged) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut publish = BTreeMap::new();
    let unit = &settings.unit.0;
    for (peer, url) in &settings.peers {
        let (messages, waiting) = mpsc::channel(MESSAGES_MAX);
        publish.insert(peer.clone(), messages);
        let broker = Broker::of(settings, url, format!("unitring {unit} to {peer}"));
        tasks.spawn(publisher::run(
            peer.clone(),
            broker,
            waiting,
            sender.clone(),
        ));
    }
    let broker = Broker::of(settings, &settings.unit.1, format!("unitring {unit} inbox"));
    tasks.spawn(inbox::run(unit.clone(), broker, judged, sender));
    if !settings.removed.is_empty() {
        let broker = Broker::of(
            settings,
            &settings.unit.1,
            format!("unitring {unit} cleaner"),
        );
        tasks.spawn(clean(broker, settings.removed.clone()));
    }
    Links {
        publish,
        verdicts,
        events,
        tasks,
    }
}

/// A broker, and how to connect to it.
struct Broker {
    url: Url,
    tls: Tls,
    name: String,
    queue_bytes_max: u64,
}

impl Broker {
    fn of(settings: &Settings, url: &Url, name: String) -> Self {
        Self {
            url: url.clone(),
            tls: settings.tls.clone(),
            name,
            queue_bytes_max: settings.queue_bytes_max,
        }
    }

    async fn connect(&self) -> Result<(Connection, Channel), SessionError> {
        let properties = ConnectionProperties::default();
        let properties = properties.with_connection_name(self.name.clone().into());
        let runtime = lapin::runtime::default_runtime()?;
        let url = self.url.reveal();
        let connect = Connection::connect_with_config(url, properties, self.tls.config(), runtime);
        let connection = step("connecting", connect).await?;
        let channel = step("opening a channel", connection.create_channel()).await?;
        Ok((connection, channel))
    }
}

/// Deletes the queues of units that left, once: what is in them is for nobody.
async fn clean(broker: Broker, removed: BTreeSet<UnitId>) {
    let mut pause = Pause::new();
    loop {
        let done = async {
            let (connection, channel) = broker.connect().await?;
            topology::delete(&channel, &removed).await?;
            close(&connection).await;
            Ok::<_, SessionError>(())
        };
        match done.await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "queues of units that left stay for now"),
        }
        pause.wait().await;
    }
}

async fn close(connection: &Connection) {
    let closing = connection.close(200, "stopping".into());
    match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "closing a connection to the broker"),
        Err(_) => tracing::debug!("a connection to the broker is left: it does not answer"),
    }
}

/// How long to wait before the next try.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(RETRY_MIN)
    }

    /// Waits, give or take a quarter, so that units do not return in step. The randomness is that of
    /// the standard library's hash seeds.
    async fn wait(&mut self) {
        use std::hash::{BuildHasher as _, RandomState};
        let random = RandomState::new().hash_one(0);
        let percent = 75 + u32::try_from(random % 51).unwrap_or(0);
        tokio::time::sleep(self.0 * percent / 100).await;
        self.0 = (self.0 * 2).min(RETRY_MAX);
    }
}
