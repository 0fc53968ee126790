//! One link out: publishes messages to one unit's queue, each confirmed.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, MissedTickBehavior};
use unitring_protocol::ids::UnitId;
use unitring_protocol::trace::TraceParent;

use super::super::{Event, Publish};
use super::topology::{self, persistent};
use super::{Broker, CONFIRM_TIMEOUT, Pause, SessionError, close, while_connected};
use crate::clock::timer;
use crate::sync::machine::{Lasts, MessageId};

/// Messages that wait for a confirm, above which short-lived messages are left out.
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
                if events.send(Event::Up(peer.clone())).await.is_err() {
                    return;
                }
                let status = session.connection.status().clone();
                let run = session.run(&peer, &broker, &mut messages, &events);
                let ended = while_connected(&status, run).await;
                if session.has_confirmed {
                    // A session that got nothing through does not reset the back-off.
                    pause = Pause::new();
                }
                match ended {
                    Ok(()) => return close(&session.connection).await,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        if let Some(bytes) = message_limit(&why) {
            let limit = Event::Limit(peer.clone(), bytes);
            if events.send(limit).await.is_err() {
                return;
            }
        }
        if events.send(Event::Down(peer.clone(), why)).await.is_err() {
            return;
        }
        // The machine publishes the messages of an ended session again in the next one.
        while messages.recv().now_or_never().flatten().is_some() {}
        pause.wait().await;
    }
}

/// The largest message that a broker takes, if that is why it ended the channel. AMQP reports the
/// limit in this text only.
fn message_limit(why: &str) -> Option<usize> {
    let (_, rest) = why.split_once("message size")?;
    let (_, rest) = rest.split_once("max size ")?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// One connection, from declared to broken.
struct Session {
    connection: Connection,
    channel: Channel,
    /// Messages that wait for a confirm, and since when.
    unconfirmed: BTreeMap<MessageId, Instant>,
    /// Whether the broker confirmed any message.
    has_confirmed: bool,
}

type Confirmed = (MessageId, Result<Confirmation, lapin::Error>);

async fn confirmed(id: MessageId, confirm: PublisherConfirm) -> Confirmed {
    (id, confirm.await)
}

/// The error of a waiting message, if the broker ended the channel because of it.
fn cause(confirms: &mut FuturesUnordered<impl Future<Output = Confirmed>>) -> Option<SessionError> {
    while let Some((_, confirmation)) = confirms.next().now_or_never().flatten() {
        if let Err(error) = confirmation
            && error.to_string().contains("PRECONDITION_FAILED")
        {
            return Some(error.into());
        }
    }
    None
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
            has_confirmed: false,
        })
    }

    /// `Ok` if the driver is gone, an error if the connection failed.
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
                    let published = self.publish(peer, &message).await;
                    // The pending confirms carry the broker's reason for ending the channel.
                    match published.map_err(|error| cause(&mut confirms).unwrap_or(error))? {
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
                        // The broker returned it as unroutable: an operator deleted the queue.
                        topology::declare(&self.channel, peer, broker.queue_bytes_max).await?;
                    }
                    let is_taken = matches!(confirmation, Confirmation::Ack(None));
                    self.has_confirmed |= is_taken;
                    Event::Published(peer.clone(), id, is_taken)
                }
                Some(notice) = notices.next() => {
                    let why = match notice {
                        lapin::Event::ConnectionBlocked(why) => Some(why),
                        lapin::Event::ConnectionUnblocked => None,
                        _ => continue,
                    };
                    // The timeouts of messages that waited for the broker begin now.
                    let now = timer();
                    self.unconfirmed.values_mut().for_each(|since| *since = now);
                    Event::Blocked(peer.clone(), why)
                }
                _ = tick.tick() => {
                    let oldest = self.unconfirmed.values().min();
                    let is_late = oldest.is_some_and(|since| timer() - *since > CONFIRM_TIMEOUT);
                    if is_late && !self.is_blocked() {
                        return Err(SessionError::Silent("confirming a message", CONFIRM_TIMEOUT));
                    }
                    continue;
                }
            };
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Whether the broker takes nothing for now.
    fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Publishes a message. `None` if a short-lived one is left out because the link is congested:
    /// the next comes soon.
    async fn publish(
        &mut self,
        peer: &UnitId,
        message: &Publish,
    ) -> Result<Option<PublisherConfirm>, SessionError> {
        let properties = match message.lasts {
            Lasts::UntilRead => persistent(),
            Lasts::Ms(_) if self.is_blocked() || self.unconfirmed.len() >= UNCONFIRMED_MAX => {
                return Ok(None);
            }
            Lasts::Ms(ms) => BasicProperties::default().with_expiration(ms.to_string().into()),
        };
        let properties = with_trace(properties, message.trace);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        self.unconfirmed.insert(message.id, timer());
        let (exchange, key) = (topology::EXCHANGE.into(), topology::key(peer).into());
        let bytes = &message.bytes;
        let publish = self
            .channel
            .basic_publish(exchange, key, options, bytes, properties);
        // It waits until the message is written, for as long as the broker blocks the connection.
        let mut publish = pin!(publish);
        loop {
            match tokio::time::timeout(CONFIRM_TIMEOUT, publish.as_mut()).await {
                Ok(confirm) => return Ok(Some(confirm?)),
                Err(_) if self.is_blocked() => {}
                Err(_) => {
                    return Err(SessionError::Silent(
                        "publishing a message",
                        CONFIRM_TIMEOUT,
                    ));
                }
            }
        }
    }
}

/// The header that tools at the broker look for. Each op in the message has its own besides.
fn with_trace(properties: BasicProperties, trace: Option<TraceParent>) -> BasicProperties {
    let Some(trace) = trace else {
        return properties;
    };
    let mut headers = FieldTable::default();
    let text = AMQPValue::LongString(trace.to_string().into());
    headers.insert("traceparent".into(), text);
    properties.with_headers(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_says_how_large_a_message_may_be_when_it_ends_the_channel() {
        let why = "protocol error: AMQP soft error: PRECONDITION-FAILED: PRECONDITION_FAILED - message size \
                   1398273 is larger than configured max size 1000000";
        assert_eq!(message_limit(why), Some(1_000_000));
        let older = "message size 140000000 larger than max size 134217728";
        assert_eq!(message_limit(older), Some(134_217_728));
        assert_eq!(message_limit("the broker ended it"), None);
    }
}
