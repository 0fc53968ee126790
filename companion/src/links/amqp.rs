//! The link through RabbitMQ: one broker for all units.
//!
//! Topic exchange `unitring.sync`; per unit a quorum queue `unitring.sync.<unit>`, bound to
//! `ops.<origin>` of each other unit and to `to.<unit>`. Every unit declares all of it, so that ops
//! wait also for a unit that never ran.
//!
//! Invariant: a message counts as published only if the broker confirmed it and did not return it.
//! The connection is made anew for ever, with everything declared anew; lapin's own recovery
//! gives up after some tries and is not used.

mod topology;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicPublishOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use unitring_protocol::ids::UnitId;

use super::{Command, Event};
use crate::config::Url;
use crate::unit::{MessageId, Route, Tag};

/// How long each step from nothing to a session may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the broker may take to confirm a message. Then the session is over, and what was in
/// doubt goes out again in the next one.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two tries: doubles from the first to the last, give or take a quarter.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// Commands that may wait for the link. The state machine keeps far below it.
pub const COMMANDS_MAX: usize = 4_096;
/// Events that may wait for the driver.
pub const EVENTS_MAX: usize = 256;

/// What the link needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker.
    pub url: Url,
    /// This unit.
    pub unit: UnitId,
    /// The others.
    pub peers: Vec<UnitId>,
}

/// Why there is no session, or no more.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    /// The broker said no, or nothing at all.
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    /// It went silent, as it does under a memory or disk alarm.
    #[error("{0}: no answer within {seconds} s", seconds = STEP_TIMEOUT.as_secs())]
    Silent(&'static str),
}

/// One step, in bounded time.
async fn step<T>(
    name: &'static str,
    work: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, SessionError> {
    let done = tokio::time::timeout(STEP_TIMEOUT, work).await;
    Ok(done.map_err(|_| SessionError::Silent(name))??)
}

/// Runs until the driver is gone.
pub async fn run(
    settings: Settings,
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
) {
    let mut pause = RETRY_MIN;
    let mut last_tag: Tag = 0;
    loop {
        let why = match Session::open(&settings).await {
            Ok(mut session) => {
                pause = RETRY_MIN;
                session.last_tag = last_tag;
                if events.send(Event::Up).await.is_err() {
                    return;
                }
                let ended = session.run(&settings, &mut commands, &events).await;
                last_tag = session.last_tag;
                match ended {
                    Ok(()) => return session.close().await,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        if events.send(Event::Down(why)).await.is_err() {
            return;
        }
        // Commands of a session that is over mean nothing to the next one.
        while commands.recv().now_or_never().flatten().is_some() {}
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// The pause, give or take a quarter, so that units do not return in step. The randomness is that
/// of the standard library's hash seeds.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(0);
    let percent = 75 + u32::try_from(random % 51).unwrap_or(0);
    pause * percent / 100
}

/// One connection, from declared to broken.
struct Session {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    unacked: BTreeMap<Tag, (Acker, Vec<u8>)>,
    last_tag: Tag,
}

type Confirmed = (
    MessageId,
    Result<Result<Confirmation, lapin::Error>, Elapsed>,
);

impl Session {
    async fn open(settings: &Settings) -> Result<Self, SessionError> {
        let name = format!("unitring {}", settings.unit);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connect = Connection::connect(settings.url.reveal(), properties);
        let connection = step("connecting", connect).await?;
        let channel = step("opening a channel", connection.create_channel()).await?;
        // A quorum queue that lost its leader (a broker killed right after the queue was made) is
        // silent here for good: only an operator may delete it, since it may hold messages.
        let declare = topology::declare(&channel, settings);
        let consumer = step(
            "declaring queues (is one of them without a leader?)",
            declare,
        )
        .await?;
        Ok(Self {
            connection,
            channel,
            consumer,
            unacked: BTreeMap::new(),
            last_tag: 0,
        })
    }

    /// `Ok` if the driver is gone, an error if the connection is.
    async fn run(
        &mut self,
        settings: &Settings,
        commands: &mut mpsc::Receiver<Command>,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), SessionError> {
        let mut confirms = FuturesUnordered::new();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None => return Ok(()),
                    Some(Command::Ack(tag)) => self.ack(tag).await?,
                    Some(Command::SetAside(tag)) => {
                        step("setting a message aside", self.set_aside(tag, settings)).await?;
                    }
                    Some(Command::Publish { id, route, bytes }) => {
                        let confirm = self.publish(settings, &route, &bytes).await?;
                        let confirm = tokio::time::timeout(CONFIRM_TIMEOUT, confirm);
                        confirms.push(confirm.map(move |confirmed| (id, confirmed)));
                    }
                },
                Some(confirmed) = confirms.next(), if !confirms.is_empty() => {
                    let (id, confirmed) = judge(confirmed)?;
                    if events.send(Event::Published(id, confirmed)).await.is_err() {
                        return Ok(());
                    }
                    if !confirmed {
                        // Nobody is bound to it: somebody deleted a queue. Declare all again.
                        let declare = topology::declare_queues(&self.channel, settings);
                        step("declaring queues again", declare).await?;
                    }
                },
                delivery = self.consumer.next() => {
                    let Some(delivery) = delivery else {
                        return Err(topology::cancelled().into());
                    };
                    let delivery = delivery?;
                    self.last_tag += 1;
                    let bytes = delivery.data;
                    // Kept only as long as it takes to know whether it has to be set aside.
                    self.unacked.insert(self.last_tag, (delivery.acker, bytes.clone()));
                    if events.send(Event::Delivered(self.last_tag, bytes)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn ack(&mut self, tag: Tag) -> Result<(), lapin::Error> {
        if let Some((acker, _)) = self.unacked.remove(&tag) {
            acker.ack(BasicAckOptions::default()).await?;
        }
        Ok(())
    }

    /// Moves a delivery to the poison queue, and acknowledges it once it is there.
    async fn set_aside(&mut self, tag: Tag, settings: &Settings) -> Result<(), lapin::Error> {
        let Some((acker, bytes)) = self.unacked.remove(&tag) else {
            return Ok(());
        };
        let queue = topology::poison_queue(&settings.unit);
        let options = BasicPublishOptions::default();
        let confirm = self
            .channel
            .basic_publish("".into(), queue.into(), options, &bytes, persistent())
            .await?;
        confirm.await?;
        acker.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    async fn publish(
        &self,
        settings: &Settings,
        route: &Route,
        bytes: &[u8],
    ) -> Result<lapin::PublisherConfirm, lapin::Error> {
        let (key, properties) = match route {
            Route::All => (topology::ops_key(&settings.unit), persistent()),
            Route::One(unit) => (topology::to_key(unit), persistent()),
            Route::AllFor(ms) => {
                let transient = BasicProperties::default().with_expiration(ms.to_string().into());
                (topology::ops_key(&settings.unit), transient)
            }
        };
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let exchange = topology::EXCHANGE.into();
        self.channel
            .basic_publish(exchange, key.into(), options, bytes, properties)
            .await
    }

    async fn close(&self) {
        if let Err(error) = self.connection.close(200, "stopping".into()).await {
            tracing::debug!(%error, "closing the connection to the broker");
        }
    }
}

/// On disk at the broker before it confirms.
fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

/// Confirmed is only what the broker took and could route.
fn judge((id, confirmation): Confirmed) -> Result<(MessageId, bool), SessionError> {
    let confirmation = confirmation.map_err(|_| SessionError::Silent("confirming a message"))??;
    Ok((id, matches!(confirmation, Confirmation::Ack(None))))
}
