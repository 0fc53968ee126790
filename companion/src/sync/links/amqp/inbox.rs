//! The link in: reads this unit's own queue, in order.
//!
//! One of several consumers of a queue is active. The broker does not tell them which, nor, for a
//! quorum queue, how many wait. So the reader holds a claim, an exclusive queue of its connection:
//! a companion that cannot get the claim reports that another one reads, and waits.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicPublishOptions};
use lapin::{Acker, Channel, Confirmation, Connection, Consumer};
use tokio::sync::mpsc;
use tokio::time::Duration;
use unitring_protocol::ids::UnitId;

use super::super::{Event, Verdict};
use super::topology::{self, persistent};
use super::{Broker, Pause, SessionError, close, step, while_connected};
use crate::sync::machine::Tag;

/// How often a waiting companion tries to get the claim.
const CLAIM_EVERY: Duration = Duration::from_secs(1);

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
        let why = match broker.connect().await {
            Ok((connection, channel)) => {
                let work = async {
                    if !claim(&unit, &connection, &mut verdicts, &events).await? {
                        return Ok(());
                    }
                    let mut session = Session::open(&unit, &broker, channel, last_tag).await?;
                    pause = Pause::new();
                    if events.send(Event::InboxUp).await.is_err() {
                        return Ok(());
                    }
                    let run = session.run(&unit, &mut verdicts, &events);
                    let ended = while_connected(connection.status(), run).await;
                    last_tag = session.last_tag;
                    ended
                };
                let ended = work.await;
                // The claim ends with the connection.
                close(&connection).await;
                match ended {
                    Ok(()) => return,
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

/// Waits until no other companion reads the queue. `false` if the driver is gone.
async fn claim(
    unit: &UnitId,
    connection: &Connection,
    verdicts: &mut mpsc::UnboundedReceiver<Verdict>,
    events: &mpsc::Sender<Event>,
) -> Result<bool, SessionError> {
    let mut tries = 0_u64;
    while !topology::claim(connection, unit).await? {
        tries = tries.saturating_add(1);
        // At the first try it may be the former leader of this unit.
        if tries == 2 {
            let why = "another consumer reads this unit's queue: does a second unit use this name?";
            if events
                .send(Event::InboxWaits(why.to_owned()))
                .await
                .is_err()
            {
                return Ok(false);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(CLAIM_EVERY) => {}
            // Verdicts of an earlier session mean nothing.
            verdict = verdicts.recv() => if verdict.is_none() {
                return Ok(false);
            },
        }
    }
    Ok(true)
}

/// One connection, from declared to broken.
struct Session {
    channel: Channel,
    consumer: Consumer,
    unacked: BTreeMap<Tag, Acker>,
    last_tag: Tag,
}

impl Session {
    async fn open(
        unit: &UnitId,
        broker: &Broker,
        channel: Channel,
        last_tag: Tag,
    ) -> Result<Self, SessionError> {
        topology::confirm(&channel).await?;
        topology::declare(&channel, unit, broker.queue_bytes_max).await?;
        topology::declare_poison(&channel, unit).await?;
        let consumer = topology::consume(&channel, unit).await?;
        Ok(Self {
            channel,
            consumer,
            unacked: BTreeMap::new(),
            last_tag,
        })
    }

    /// `Ok` if the driver is gone, an error if the connection failed.
    async fn run(
        &mut self,
        unit: &UnitId,
        verdicts: &mut mpsc::UnboundedReceiver<Verdict>,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), SessionError> {
        loop {
            tokio::select! {
                verdict = verdicts.recv() => match verdict {
                    None => return Ok(()),
                    // A tag of an earlier session means nothing here: the broker delivers the
                    // message again.
                    Some(Verdict::Ack(tag)) => self.ack(tag).await?,
                    Some(Verdict::SetAside(tag, bytes)) => self.set_aside(tag, &bytes, unit).await?,
                },
                delivery = self.consumer.next() => {
                    let delivery = delivery.ok_or_else(topology::ended)??;
                    self.last_tag += 1;
                    self.unacked.insert(self.last_tag, delivery.acker);
                    let event = Event::Delivered(self.last_tag, delivery.data);
                    if events.send(event).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn ack(&mut self, tag: Tag) -> Result<(), SessionError> {
        if let Some(acker) = self.unacked.remove(&tag) {
            let ack = acker.ack(BasicAckOptions::default());
            step("acknowledging a message", ack).await?;
        }
        Ok(())
    }

    /// Moves a delivery to the poison queue, and acknowledges it once the broker has confirmed it
    /// there.
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
                // An operator deleted the queue.
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
                return self.ack(tag).await;
            }
        }
        Err(SessionError::NotSetAside)
    }
}
