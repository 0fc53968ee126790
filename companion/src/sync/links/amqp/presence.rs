//! Whether a unit runs, seen from its broker: while it does, a connection of it holds the claim of its queue, also
//! while the unit is removed from its group and neither reads nor sends.

use std::convert::Infallible;
use std::time::Duration;

use lapin::Connection;
use unitring_protocol::ids::UnitId;

use super::{Access, Broker, Pause, SessionError, close, topology, while_connected};
use crate::clock;
use crate::config::Url;

/// How often a companion that does not have the claim tries to get it.
const CLAIM_EVERY: Duration = Duration::from_secs(1);
/// A unit that runs is without the claim for a moment: when it learns that it was removed, and when its queue is
/// deleted. So it is looked for as long as this, this often.
const LOOK_FOR: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Holds the claim of this unit's queue, until the future is dropped.
pub(crate) async fn hold(unit: &UnitId, url: &Url, access: &Access) -> Infallible {
    let broker = Broker::beside(url, access, format!("unitring {unit} removed"));
    let mut pause = Pause::new();
    loop {
        let Err(error) = hold_once(&broker, unit).await;
        tracing::debug!(%error, "the broker does not know yet that this unit runs");
        pause.wait().await;
    }
}

async fn hold_once(broker: &Broker, unit: &UnitId) -> Result<Infallible, SessionError> {
    let (connection, _channel) = broker.connect().await?;
    let keep = async {
        // Another companion of this unit may have it.
        while !topology::claim(&connection, unit).await? {
            tokio::time::sleep(CLAIM_EVERY).await;
        }
        std::future::pending().await
    };
    let ended = while_connected(connection.status(), keep).await;
    close(&connection).await;
    ended.and(Err(topology::ended().into()))
}

/// Whether a unit runs; `None` if its broker does not tell. That it does not takes three seconds to find out.
pub(crate) async fn runs(unit: &UnitId, url: &Url, access: &Access) -> Option<bool> {
    let broker = Broker::beside(url, access, format!("unitring looks for {unit}"));
    let look = async {
        let (connection, _channel) = broker.connect().await?;
        let found = look_for(&connection, unit).await;
        close(&connection).await;
        found
    };
    let found: Result<bool, SessionError> = look.await;
    found
        .inspect_err(
            |error| tracing::warn!(%unit, %error, "its broker does not say whether it runs"),
        )
        .ok()
}

async fn look_for(connection: &Connection, unit: &UnitId) -> Result<bool, SessionError> {
    let end = clock::timer() + LOOK_FOR;
    while !topology::is_claimed(connection, unit).await? {
        if clock::timer() >= end {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(true)
}
