//! Queues and exchanges, declared at a broker at every connection. The first unit to connect creates them, so that
//! ops wait even for a unit that never ran.

use std::collections::BTreeSet;

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer, ErrorKind, ExchangeKind};
use unitring_protocol::ids::UnitId;

use super::{SessionError, step};
use crate::sync::machine::incoming::DELIVERIES_MAX;

/// The exchange of all units.
pub(super) const EXCHANGE: &str = "unitring.sync";
/// Most messages in the poison queue; the broker drops the oldest.
const POISON_MAX: i32 = 10_000;

fn queue(unit: &UnitId) -> String {
    format!("unitring.sync.{unit}")
}

/// The prefix differs from that of the units' queues, so the names cannot collide.
pub(super) fn poison_queue(unit: &UnitId) -> String {
    format!("unitring.poison.{unit}")
}

/// An exclusive queue: it exists while a companion reads the unit's queue.
fn claim_queue(unit: &UnitId) -> String {
    format!("unitring.reader.{unit}")
}

pub(super) fn key(unit: &UnitId) -> String {
    format!("to.{unit}")
}

/// The broker ended the connection or our consumer, as it does when the queue is deleted.
pub(super) fn ended() -> lapin::Error {
    std::io::Error::other("the broker ended it").into()
}

/// The broker has the message on disk before it confirms it.
pub(super) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Turns on publisher confirms: the broker reports which messages it has on disk.
pub(super) async fn confirm(channel: &Channel) -> Result<(), SessionError> {
    let confirm = channel.confirm_select(ConfirmSelectOptions::default());
    step("asking for confirms", confirm).await
}

/// Declares the exchange, and a unit's queue with its binding.
pub(super) async fn declare(
    channel: &Channel,
    unit: &UnitId,
    bytes_max: u64,
) -> Result<(), SessionError> {
    let declare = async {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let none = FieldTable::default;
        channel
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, none())
            .await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        // The broker rejects messages to a full queue, and the sender keeps them: nothing is
        // dropped.
        arguments.insert("x-overflow".into(), text("reject-publish"));
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        arguments.insert(
            "x-max-length-bytes".into(),
            AMQPValue::LongLongInt(bytes_max),
        );
        let name = queue(unit);
        channel
            .queue_declare(name.as_str().into(), durable(), arguments)
            .await?;
        let (exchange, options) = (EXCHANGE.into(), QueueBindOptions::default());
        channel
            .queue_bind(name.into(), exchange, key(unit).into(), options, none())
            .await
    };
    // A quorum queue that lost its leader (a broker killed right after the queue was made) never
    // answers here. Only an operator may delete it, since it may hold messages.
    step(
        "declaring a queue (has the quorum queue lost its leader?)",
        declare,
    )
    .await
}

/// Deletes the queues of these units.
pub(super) async fn delete(
    channel: &Channel,
    units: &BTreeSet<UnitId>,
) -> Result<(), SessionError> {
    for unit in units {
        let delete = channel.queue_delete(queue(unit).into(), QueueDeleteOptions::default());
        step("deleting a queue", delete).await?;
    }
    Ok(())
}

/// Declares the queue for messages that can't be read.
pub(super) async fn declare_poison(channel: &Channel, unit: &UnitId) -> Result<(), SessionError> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(POISON_MAX));
    let name = poison_queue(unit).into();
    let declare = channel.queue_declare(name, durable(), arguments);
    step("declaring a queue", declare).await?;
    Ok(())
}

/// Claims a unit's queue for this connection until it ends; `false` if another connection holds the
/// claim.
pub(super) async fn claim(connection: &Connection, unit: &UnitId) -> Result<bool, SessionError> {
    // A refusal ends the channel.
    let channel = step("opening a channel", connection.create_channel()).await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let name = claim_queue(unit).into();
    let declare = channel.queue_declare(name, options, FieldTable::default());
    match step("claiming the queue", declare).await {
        Ok(_) => {
            step("closing a channel", channel.close(200, "claimed".into())).await?;
            Ok(true)
        }
        Err(SessionError::Broker(error)) if is(&error, AMQPSoftError::RESOURCELOCKED) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether another connection holds the claim of a unit's queue.
pub(super) async fn is_claimed(
    connection: &Connection,
    unit: &UnitId,
) -> Result<bool, SessionError> {
    // A refusal ends the channel.
    let channel = step("opening a channel", connection.create_channel()).await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let name = claim_queue(unit).into();
    let look = channel.queue_declare(name, options, FieldTable::default());
    match step("looking for the claim", look).await {
        Ok(_) => Ok(true),
        Err(SessionError::Broker(error)) if is(&error, AMQPSoftError::RESOURCELOCKED) => Ok(true),
        Err(SessionError::Broker(error)) if is(&error, AMQPSoftError::NOTFOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is(error: &lapin::Error, reply: AMQPSoftError) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return false;
    };
    *error.kind() == AMQPErrorKind::Soft(reply)
}

/// Starts to consume a unit's queue.
pub(super) async fn consume(channel: &Channel, unit: &UnitId) -> Result<Consumer, SessionError> {
    let consume = async {
        channel
            .basic_qos(DELIVERIES_MAX, BasicQosOptions::default())
            .await?;
        let (name, options) = (queue(unit).into(), BasicConsumeOptions::default());
        channel
            .basic_consume(name, "".into(), options, FieldTable::default())
            .await
    };
    step("reading the queue", consume).await
}
