//! The link in: this unit's own queue, read in order.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicPublishOptions};
use lapin::{Acker, Channel, Confirmation, Connection, Consumer};
use tokio::sync::mpsc;
use tokio::time::{Duration, MissedTickBehavior};
use unitring_protocol::ids::UnitId;

use super::super::{Event, Verdict};
use super::topology::{self, persistent};
use super::{Broker, Pause, SessionError, close, step};
use crate::unit::Tag;

/// How often it is looked who reads the queue.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs until the driver is gone.
pub(super) async fn run(
    unit: UnitId,
    broker: Broker,
    mut verdicts: mpsc::UnboundedReceiver<Verdict>,
    events: mpsc::Sender<Event>,
) {
    let mut pause = Pause::new();
    let mut last_tag: Tag = 0;
    loop {
        let why = match Session::open(&unit, &broker, last_tag).await {
            Ok(mut session) => {
                pause = Pause::new();
                if events.send(Event::InboxUp).await.is_err() {
                    return;
                }
                let ended = session.run(&unit, &mut verdicts, &events).await;
                last_tag = session.last_tag;
                match ended {
                    Ok(()) => return close(&session.connection).await,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        if events.send(Event::InboxDown(why)).await.is_err() {
            return;
        }
        pause.wait().await;
    }
}

/// One connection, from declared to broken.
struct Session {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    unacked: BTreeMap<Tag, Acker>,
    last_tag: Tag,
    /// Whether it was said that another reads the queue.
    waits: bool,
    /// Deliveries since it was last looked who reads the queue.
    delivered: u64,
}

impl Session {
    async fn open(unit: &UnitId, broker: &Broker, last_tag: Tag) -> Result<Self, SessionError> {
        let (connection, channel) = broker.connect().await?;
        topology::confirm(&channel).await?;
        topology::declare(&channel, unit, broker.queue_bytes_max).await?;
        topology::declare_poison(&channel, unit).await?;
        let consumer = topology::consume(&channel, unit).await?;
        Ok(Self {
            connection,
            channel,
            consumer,
            unacked: BTreeMap::new(),
            last_tag,
            waits: false,
            delivered: 0,
        })
    }

    /// `Ok` if the driver is gone, an error if the connection is.
    async fn run(
        &mut self,
        unit: &UnitId,
        verdicts: &mut mpsc::UnboundedReceiver<Verdict>,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), SessionError> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if let Some(event) = self.look(unit).await?
                        && events.send(event).await.is_err()
                    {
                        return Ok(());
                    }
                }
                verdict = verdicts.recv() => match verdict {
                    None => return Ok(()),
                    // A tag of a session that is over means nothing here: it is delivered again.
                    Some(Verdict::Ack(tag)) => self.ack(tag).await?,
                    Some(Verdict::SetAside(tag, bytes)) => self.set_aside(tag, &bytes, unit).await?,
                },
                delivery = self.consumer.next() => {
                    let delivery = delivery.ok_or_else(topology::ended)??;
                    self.last_tag += 1;
                    self.delivered += 1;
                    if std::mem::take(&mut self.waits) && events.send(Event::InboxUp).await.is_err() {
                        return Ok(());
                    }
                    self.unacked.insert(self.last_tag, delivery.acker);
                    let event = Event::Delivered(self.last_tag, delivery.data);
                    if events.send(event).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether we are the one who reads the queue: of several consumers one is active, and the broker tells none
    /// of them which.
    async fn look(&mut self, unit: &UnitId) -> Result<Option<Event>, SessionError> {
        let was_idle = std::mem::take(&mut self.delivered) == 0;
        let readers = topology::readers(&self.channel, unit).await?;
        let waits = readers > 1 && (was_idle || self.waits);
        if waits == self.waits {
            return Ok(None);
        }
        self.waits = waits;
        let why = format!(
            "another one reads this unit's queue ({readers} do): is there a second unit of this name?"
        );
        Ok(Some(if waits {
            Event::InboxWaits(why)
        } else {
            Event::InboxUp
        }))
    }

    async fn ack(&mut self, tag: Tag) -> Result<(), lapin::Error> {
        if let Some(acker) = self.unacked.remove(&tag) {
            acker.ack(BasicAckOptions::default()).await?;
        }
        Ok(())
    }

    /// Moves a delivery to the poison queue, and acknowledges it once it is there.
    async fn set_aside(
        &mut self,
        tag: Tag,
        bytes: &[u8],
        unit: &UnitId,
    ) -> Result<(), SessionError> {
        if !self.unacked.contains_key(&tag) {
            return Ok(());
        }
        for is_second in [false, true] {
            if is_second {
                // Somebody deleted the queue.
                topology::declare_poison(&self.channel, unit).await?;
            }
            let queue = topology::poison_queue(unit);
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let channel = &self.channel;
            let publish =
                channel.basic_publish("".into(), queue.into(), options, bytes, persistent());
            let confirm = async { publish.await?.await };
            if let Confirmation::Ack(None) = step("setting a message aside", confirm).await? {
                return Ok(self.ack(tag).await?);
            }
        }
        Err(SessionError::NotSetAside)
    }
}
