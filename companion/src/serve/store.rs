//! Settings → the store of the unit, and what its companions must agree on.

use std::sync::Arc;

use lapin::uri::AMQPUri;
use unitring_protocol::ids::UnitId;

use crate::config::{Settings, StoreSettings, Url};
use crate::store::embedded::Embedded;
use crate::store::redis::Redis;
use crate::store::{Agreement, SINCE_AGREED, Store, StoreError};

/// Opens the store of the unit; also the connection to Redis, if it is that.
pub(super) fn open(settings: &Settings) -> Result<(Arc<dyn Store>, Option<Redis>), StoreError> {
    let has_peers = settings.sync.is_some();
    match &settings.store {
        StoreSettings::Embedded { path } => {
            let store = Embedded::open(path, settings.unit.clone(), has_peers)?;
            Ok((Arc::new(store.agreeing(agreement(settings))?), None))
        }
        StoreSettings::Redis(redis) => {
            let store = Redis::open(redis, settings.unit.clone(), has_peers)?;
            let store = store.agreeing(agreement(settings));
            Ok((Arc::new(store.clone()), Some(store)))
        }
    }
}

/// The settings that all companions of a unit must share: a companion with other peers would keep
/// no outbox, or one for other units; one with another virtual host would send to queues that no companion reads, and
/// take the broker's confirm for a delivery. Hosts and logins of one broker may differ.
fn agreement(settings: &Settings) -> Agreement {
    let Some(sync) = &settings.sync else {
        return Agreement("no peers".to_owned());
    };
    let mut peers: Vec<&str> = sync.peers.iter().map(UnitId::as_str).collect();
    peers.sort_unstable();
    let (peers, bytes) = (peers.join(","), sync.queue_bytes_max);
    let mut units: Vec<&UnitId> = sync.peers.iter().chain([&settings.unit]).collect();
    units.sort_unstable();
    let hosts = units.iter().map(|unit| {
        let own = if sync.brokers.contains_key(*unit) {
            " at its own broker"
        } else {
            ""
        };
        format!("{unit}={}{own}", virtual_host(sync.broker(unit)))
    });
    let hosts: Vec<String> = hosts.collect();
    let hosts = hosts.join(" ");
    Agreement(format!(
        "peers {peers}, queue_bytes_max {bytes}{SINCE_AGREED}{hosts}"
    ))
}

/// The virtual host of a broker's URL, which was read before.
fn virtual_host(url: &Url) -> String {
    let read = url.reveal().parse::<AMQPUri>();
    read.map_or_else(|_| "?".to_owned(), |read| read.vhost)
}
