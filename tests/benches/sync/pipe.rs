//! The peer: a bare lapin pipe, publish, confirm, consume, acknowledge, over a quorum queue as unitring
//! declares it, with nothing at its ends.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use unitring_tests::proxy::Proxy;
use unitring_tests::rabbit::Rabbit;

/// Messages that may be unconfirmed, and unacknowledged.
const WINDOW: usize = 1_000;
/// Deliveries that are acknowledged together.
const ACK_EVERY: usize = 100;

/// A broker and both ends' links to it, as the units have them.
pub(crate) struct Pipe {
    _rabbit: Rabbit,
    links: [Proxy; 2],
}

impl Pipe {
    pub(crate) async fn start() -> Result<Self> {
        let rabbit = Rabbit::start().await?;
        let links = [
            Proxy::to(rabbit.port()).await?,
            Proxy::to(rabbit.port()).await?,
        ];
        Ok(Self {
            _rabbit: rabbit,
            links,
        })
    }

    /// Sends `messages` messages of `bytes` bytes. Returns the rate a second, from the first tenth to the last.
    pub(crate) async fn carry(&self, messages: usize, bytes: usize) -> Result<f64> {
        let [out, back] = &self.links;
        let (publisher, consumer) = (channel(out).await?, channel(back).await?);
        let mut arguments = FieldTable::default();
        let quorum = AMQPValue::LongString("quorum".into());
        arguments.insert("x-queue-type".into(), quorum);
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        consumer
            .queue_declare("pipe".into(), options, arguments)
            .await?;
        let window = u16::try_from(WINDOW)?;
        consumer
            .basic_qos(window, BasicQosOptions::default())
            .await?;
        let mut deliveries = consumer
            .basic_consume(
                "pipe".into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        publisher
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let sender = tokio::spawn(publish(publisher, messages, vec![b'v'; bytes]));
        let mut began = None;
        for number in 1..=messages {
            let delivery = deliveries.next().await.context("the queue ended")??;
            if number % ACK_EVERY == 0 || number == messages {
                delivery.ack(BasicAckOptions { multiple: true }).await?;
            }
            if number == messages / 10 {
                began = Some(Instant::now());
            }
        }
        let took = began.context("too few messages")?.elapsed().as_secs_f64();
        sender.await??;
        let carried = u32::try_from(messages - messages / 10)?;
        Ok(f64::from(carried) / took)
    }
}

async fn channel(link: &Proxy) -> Result<Channel> {
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", link.port);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    Ok(connection.create_channel().await?)
}

async fn publish(channel: Channel, messages: usize, payload: Vec<u8>) -> Result<()> {
    let mut confirms = VecDeque::with_capacity(WINDOW);
    for _ in 0..messages {
        if confirms.len() >= WINDOW {
            let confirm = confirms.pop_front().context("no confirm")?;
            confirm.await?;
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let lasting = BasicProperties::default().with_delivery_mode(2);
        let publish = channel.basic_publish("".into(), "pipe".into(), options, &payload, lasting);
        confirms.push_back(publish.await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    Ok(())
}
