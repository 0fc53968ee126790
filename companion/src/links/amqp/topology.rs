//! What is declared at the broker, by every unit and at every connection.

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer, ExchangeKind};
use unitring_protocol::ids::UnitId;

use super::Settings;
use crate::unit::incoming::DELIVERIES_MAX;

/// The exchange of all units.
pub(super) const EXCHANGE: &str = "unitring.sync";
/// Messages that the poison queue keeps; the oldest go.
const POISON_MAX: i32 = 10_000;

fn queue(unit: &UnitId) -> String {
    format!("unitring.sync.{unit}")
}

pub(super) fn poison_queue(unit: &UnitId) -> String {
    format!("unitring.sync.{unit}.poison")
}

pub(super) fn ops_key(origin: &UnitId) -> String {
    format!("ops.{origin}")
}

pub(super) fn to_key(unit: &UnitId) -> String {
    format!("to.{unit}")
}

/// The broker ended our consumer, as it does when the queue is deleted.
pub(super) fn cancelled() -> lapin::Error {
    std::io::Error::other("the broker cancelled the consumer").into()
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}

/// Exchange, queues and bindings of all units.
pub(super) async fn declare_queues(
    channel: &Channel,
    settings: &Settings,
) -> Result<(), lapin::Error> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default;
    channel
        .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, none())
        .await?;
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let units = || settings.peers.iter().chain([&settings.unit]);
    for unit in units() {
        let name = queue(unit);
        channel
            .queue_declare(name.as_str().into(), durable(), arguments.clone())
            .await?;
        let origins = units().filter(|origin| *origin != unit).map(ops_key);
        for key in origins.chain([to_key(unit)]) {
            let options = QueueBindOptions::default();
            let (name, exchange) = (name.as_str().into(), EXCHANGE.into());
            channel
                .queue_bind(name, exchange, key.into(), options, none())
                .await?;
        }
    }
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(POISON_MAX));
    let name = poison_queue(&settings.unit);
    channel
        .queue_declare(name.into(), durable(), arguments)
        .await?;
    Ok(())
}

/// All of it, with confirms on, and a consumer of this unit's queue.
pub(super) async fn declare(
    channel: &Channel,
    settings: &Settings,
) -> Result<Consumer, lapin::Error> {
    declare_queues(channel, settings).await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    channel
        .basic_qos(DELIVERIES_MAX, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(
            queue(&settings.unit).into(),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await
}
