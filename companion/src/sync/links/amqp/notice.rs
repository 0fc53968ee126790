//! One message to a unit to which no link is kept: it left the group and does not know.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Confirmation};
use unitring_protocol::ids::UnitId;

use super::{Access, Broker, SessionError, close, step, topology};
use crate::config::Url;

/// For how long the message waits to be read.
const LASTS: Duration = Duration::from_secs(60);

/// Sends a message to a unit that reads its queue; returns whether the broker has it. Nothing is declared: if the queue
/// is gone, nobody reads it.
pub(crate) async fn send(unit: &UnitId, url: &Url, access: &Access, bytes: &[u8]) -> bool {
    let broker = Broker::beside(url, access, format!("unitring tells {unit}"));
    match send_once(&broker, unit, bytes).await {
        Ok(is_taken) => is_taken,
        Err(error) => {
            tracing::debug!(%unit, %error, "its broker does not take a message");
            false
        }
    }
}

async fn send_once(broker: &Broker, unit: &UnitId, bytes: &[u8]) -> Result<bool, SessionError> {
    let (connection, channel) = broker.connect().await?;
    let work = async {
        topology::confirm(&channel).await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let expires = LASTS.as_millis().to_string();
        let properties = BasicProperties::default().with_expiration(expires.into());
        let (exchange, key) = (topology::EXCHANGE.into(), topology::key(unit).into());
        let publish = async {
            let confirm = channel.basic_publish(exchange, key, options, bytes, properties);
            confirm.await?.await
        };
        // A message that the broker returns, since there is no queue, is confirmed with it.
        let confirmation = step("telling a unit that it left", publish).await?;
        Ok(matches!(confirmation, Confirmation::Ack(None)))
    };
    let is_taken = work.await;
    close(&connection).await;
    is_taken
}
