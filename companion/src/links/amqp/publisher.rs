//! One link out: messages to one unit's queue, each confirmed.

use std::collections::BTreeMap;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, MissedTickBehavior};
use unitring_protocol::ids::UnitId;

use super::super::{Event, Publish};
use super::topology::{self, persistent};
use super::{Broker, CONFIRM_TIMEOUT, Pause, SessionError, close};
use crate::unit::{Lasts, MessageId};

/// Messages that wait for their confirm, beyond which what is told again soon is left out.
const UNCONFIRMED_MAX: usize = 64;

/// Runs until the driver is gone.
pub(super) async fn run(
    peer: UnitId,
    broker: Broker,
    mut messages: mpsc::Receiver<Publish>,
    events: mpsc::Sender<Event>,
) {
    let mut pause = Pause::new();
    loop {
        let why = match Session::open(&peer, &broker).await {
            Ok(mut session) => {
                pause = Pause::new();
                if events.send(Event::Up(peer.clone())).await.is_err() {
                    return;
                }
                match session.run(&peer, &broker, &mut messages, &events).await {
                    Ok(()) => return close(&session.connection).await,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        if events.send(Event::Down(peer.clone(), why)).await.is_err() {
            return;
        }
        // Messages of a session that is over are read again for the next one.
        while messages.recv().now_or_never().flatten().is_some() {}
        pause.wait().await;
    }
}

/// One connection, from declared to broken.
struct Session {
    connection: Connection,
    channel: Channel,
    /// Since when messages wait for their confirm.
    unconfirmed: BTreeMap<MessageId, Instant>,
    is_blocked: bool,
}

type Confirmed = (MessageId, Result<Confirmation, lapin::Error>);

async fn confirmed(id: MessageId, confirm: PublisherConfirm) -> Confirmed {
    (id, confirm.await)
}

impl Session {
    async fn open(peer: &UnitId, broker: &Broker) -> Result<Self, SessionError> {
        let (connection, channel) = broker.connect().await?;
        topology::confirm(&channel).await?;
        topology::declare(&channel, peer, broker.queue_bytes_max).await?;
        Ok(Self {
            connection,
            channel,
            unconfirmed: BTreeMap::new(),
            is_blocked: false,
        })
    }

    /// `Ok` if the driver is gone, an error if the connection is.
    async fn run(
        &mut self,
        peer: &UnitId,
        broker: &Broker,
        messages: &mut mpsc::Receiver<Publish>,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), SessionError> {
        let mut confirms = FuturesUnordered::new();
        let mut notices = Box::pin(self.connection.events_listener());
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                message = messages.recv() => {
                    let Some(message) = message else { return Ok(()) };
                    match self.publish(peer, &message).await? {
                        Some(confirm) => {
                            confirms.push(confirmed(message.id, confirm));
                            continue;
                        }
                        None => Event::Published(peer.clone(), message.id, false),
                    }
                }
                Some((id, confirmation)) = confirms.next(), if !confirms.is_empty() => {
                    self.unconfirmed.remove(&id);
                    let confirmation = confirmation?;
                    if matches!(confirmation, Confirmation::Ack(Some(_))) {
                        // Nobody is bound to it: somebody deleted the queue.
                        topology::declare(&self.channel, peer, broker.queue_bytes_max).await?;
                    }
                    let is_taken = matches!(confirmation, Confirmation::Ack(None));
                    Event::Published(peer.clone(), id, is_taken)
                }
                Some(notice) = notices.next() => {
                    let why = match notice {
                        lapin::Event::ConnectionBlocked(why) => Some(why),
                        lapin::Event::ConnectionUnblocked => None,
                        _ => continue,
                    };
                    self.is_blocked = why.is_some();
                    Event::Blocked(peer.clone(), why)
                }
                _ = tick.tick() => {
                    let oldest = self.unconfirmed.values().min();
                    let is_late = oldest.is_some_and(|since| since.elapsed() > CONFIRM_TIMEOUT);
                    if is_late && !self.is_blocked {
                        return Err(SessionError::Silent("confirming a message", CONFIRM_TIMEOUT));
                    }
                    if !self.connection.status().connected() {
                        return Err(topology::ended().into());
                    }
                    continue;
                }
            };
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }

    /// `None` for a message that is left out, since its like comes soon.
    async fn publish(
        &mut self,
        peer: &UnitId,
        message: &Publish,
    ) -> Result<Option<PublisherConfirm>, SessionError> {
        let properties = match message.lasts {
            Lasts::UntilRead => persistent(),
            Lasts::Ms(_) if self.is_blocked || self.unconfirmed.len() >= UNCONFIRMED_MAX => {
                return Ok(None);
            }
            Lasts::Ms(ms) => BasicProperties::default().with_expiration(ms.to_string().into()),
        };
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        self.unconfirmed.insert(message.id, Instant::now());
        let (exchange, key) = (topology::EXCHANGE.into(), topology::key(peer).into());
        let bytes = &message.bytes;
        let publish = self
            .channel
            .basic_publish(exchange, key, options, bytes, properties);
        Ok(Some(publish.await?))
    }
}
