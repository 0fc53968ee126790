//! Links through RabbitMQ: a connection to the queue of each other unit, and one to our own.
//!
//! Topic exchange `unitring.sync`; each unit has a quorum queue `unitring.sync.<unit>`, bound to
//! `to.<unit>`. All queues may be at one broker, or each at its unit's own: the sender connects to
//! the broker of the queue. Each queue has a connection of its own, so that a broker that blocks or
//! throttles one does not slow the others.
//!
//! Invariant: a message counts as published only if the broker confirmed it and did not return it.
//! A link reconnects for ever and declares everything again each time; lapin's own recovery gives up
//! after some tries and is not used.

mod access;
mod inbox;
pub(crate) mod notice;
pub(crate) mod presence;
mod publisher;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::{Channel, Connection, ConnectionProperties, ConnectionStatus};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use unitring_protocol::ids::UnitId;

use super::Links;
use crate::config::Url;
pub(crate) use access::Access;

/// How long each step of opening a session may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the broker may take to confirm a message. After that the session ends, and the next one
/// sends the unconfirmed messages again.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is checked whether a connection still stands.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long the broker may take to close a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The back-off between two tries: it doubles from the first to the last value, ± a quarter at
/// random.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// Most messages that wait for a link. The state machine keeps far fewer, except for those it
/// repeats soon.
pub(crate) const MESSAGES_MAX: usize = 256;
/// Most events that wait for the driver.
pub(crate) const EVENTS_MAX: usize = 256;

/// The settings of the links.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// This unit, and the broker of its queue.
    pub unit: (UnitId, Url),
    /// The peers, and the brokers of their queues.
    pub peers: BTreeMap<UnitId, Url>,
    /// Units that left the group: their queues at our broker are deleted.
    pub removed: BTreeSet<UnitId>,
    /// Logins, and the certificates for `amqps://`.
    pub access: Access,
    /// Bytes that a queue holds. The broker refuses more, and the sender keeps them.
    pub queue_bytes_max: u64,
}

/// Why a session could not start, or ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    /// The broker refused, or the connection failed.
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    /// The broker did not answer in time.
    #[error("{0}: no answer within {1:?}")]
    Silent(&'static str, Duration),
    /// The broker refused a message for the poison queue.
    #[error("the queue for messages that cannot be read does not take one")]
    NotSetAside,
}

/// Runs one step with a timeout.
async fn step<T>(
    name: &'static str,
    work: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, SessionError> {
    let done = tokio::time::timeout(STEP_TIMEOUT, work).await;
    Ok(done.map_err(|_| SessionError::Silent(name, STEP_TIMEOUT))??)
}

/// Runs a session on a connection, and ends it with the connection. A call or a stream of lapin may wait for ever
/// once the connection has broken: it did so in one of six runs that broke connections on a busy machine, and the
/// unit's queue was read no more.
async fn while_connected(
    connection: &ConnectionStatus,
    session: impl Future<Output = Result<(), SessionError>>,
) -> Result<(), SessionError> {
    let gone = async {
        while connection.connected() {
            tokio::time::sleep(CHECK_EVERY).await;
        }
        // A session that learns of the end knows why.
        tokio::time::sleep(CHECK_EVERY).await;
    };
    tokio::select! {
        ended = session => ended,
        () = gone => Err(topology::ended().into()),
    }
}

/// Starts all links; they run until the returned [`Links`] is dropped.
pub(crate) fn start(settings: &Settings) -> Links {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    // Unbounded is safe: the broker sends a bounded number of deliveries without an
    // acknowledgement, and each has one verdict.
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
        _tasks: tasks,
    }
}

/// A broker, and how to connect to it.
struct Broker {
    url: Url,
    access: Access,
    name: String,
    queue_bytes_max: u64,
}

impl Broker {
    fn of(settings: &Settings, url: &Url, name: String) -> Self {
        Self {
            url: url.clone(),
            access: settings.access.clone(),
            name,
            queue_bytes_max: settings.queue_bytes_max,
        }
    }

    /// For a connection beside the links, which declares no queue that lasts.
    fn beside(url: &Url, access: &Access, name: String) -> Self {
        Self {
            url: url.clone(),
            access: access.clone(),
            name,
            queue_bytes_max: 0,
        }
    }

    async fn connect(&self) -> Result<(Connection, Channel), SessionError> {
        let properties = ConnectionProperties::default();
        let properties = properties.with_connection_name(self.name.clone().into());
        let runtime = lapin::runtime::default_runtime()?;
        let (url, tls) = (self.access.url(&self.url), self.access.config());
        let connect = Connection::connect_with_config(url.reveal(), properties, tls, runtime);
        let connection = step("connecting", connect).await?;
        let channel = step("opening a channel", connection.create_channel()).await?;
        Ok((connection, channel))
    }
}

/// Deletes the queues of units that left, once: no companion reads what they hold.
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
            Err(error) => tracing::debug!(%error, "queues of removed units not deleted yet"),
        }
        pause.wait().await;
    }
}

async fn close(connection: &Connection) {
    let closing = connection.close(200, "stopping".into());
    match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "closing a connection to the broker"),
        Err(_) => tracing::debug!("broker connection abandoned: no answer"),
    }
}

/// The back-off before the next try.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(RETRY_MIN)
    }

    /// Waits, ± a quarter, so that units do not reconnect in step. The randomness is that of the
    /// standard library's hash seeds.
    async fn wait(&mut self) {
        use std::hash::{BuildHasher as _, RandomState};
        let random = RandomState::new().hash_one(0);
        let percent = 75 + u32::try_from(random % 51).unwrap_or(0);
        tokio::time::sleep(self.0 * percent / 100).await;
        self.0 = (self.0 * 2).min(RETRY_MAX);
    }
}
