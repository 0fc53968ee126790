//! Settings and the files that they name → credentials and certificates, now and on each reload.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot, watch};

use super::ServeError;
use super::files::check_tls;
use crate::config::{ConfigError, DoorSettings, GroupSettings, Settings, StoreSettings, is_safe};
use crate::door::certificates;
use crate::door::listener::Certificates;
use crate::door::{Keyring, Rules};
use crate::metrics::Metrics;
use crate::store::redis::Redis;
use crate::sync::links::amqp::Access;

/// The settings were read again.
pub(crate) struct Reload {
    /// The settings as they are now, or why they are invalid.
    pub settings: Result<Settings, ConfigError>,
    /// Receives whether that is in force.
    pub done: oneshot::Sender<bool>,
}

/// The settings of the way in, with all files read.
pub(super) struct Door {
    pub(super) rules: Arc<Rules>,
    pub(super) http: Option<Arc<ServerConfig>>,
    pub(super) xds: Option<Arc<ServerConfig>>,
}

impl Door {
    pub(super) fn read(door: &DoorSettings) -> Result<Self, ServeError> {
        let read = |protocol: &[u8]| {
            let files = door.tls.as_ref();
            files
                .map(|files| certificates::server(files, protocol))
                .transpose()
        };
        Ok(Self {
            rules: Arc::new(Rules {
                keyring: Keyring::read(door)?,
                host_names: door.host_names.clone(),
            }),
            http: read(b"http/1.1")?,
            xds: read(b"h2")?,
        })
    }
}

/// Keeps the settings that listening addresses and requests use.
pub(super) struct Keeper {
    door: DoorSettings,
    /// The addresses that are listened on, with their settings.
    addresses: [(&'static str, SocketAddr); 2],
    rules: watch::Sender<Arc<Rules>>,
    http: watch::Sender<Option<Arc<ServerConfig>>>,
    xds: watch::Sender<Option<Arc<ServerConfig>>>,
}

/// The certificates in force of each address.
pub(super) struct Served {
    pub(super) http: Certificates,
    pub(super) xds: Certificates,
}

impl Keeper {
    /// A keeper of these settings, and what is in force by them.
    pub(super) fn new(
        settings: &Settings,
        door: Door,
    ) -> (Self, Served, watch::Receiver<Arc<Rules>>) {
        let (rules_sender, rules) = watch::channel(door.rules);
        let (http_sender, http) = watch::channel(door.http);
        let (xds_sender, xds) = watch::channel(door.xds);
        let keeper = Self {
            door: settings.door.clone(),
            addresses: [
                ("listen", settings.listen),
                ("xds_listen", settings.xds_listen),
            ],
            rules: rules_sender,
            http: http_sender,
            xds: xds_sender,
        };
        (keeper, Served { http, xds }, rules)
    }

    /// Reads the files that the settings name, unless the new settings open access that was closed: a file that lost
    /// its lines must not do that.
    fn read_again(&self, door: DoorSettings) -> Result<(DoorSettings, Door), String> {
        // The addresses that the companion listens on, even if the settings name others by now.
        for (field, address) in self.addresses {
            is_safe(field, address, &door).map_err(|error| error.to_string())?;
        }
        if self.door.has_credentials() && !door.has_credentials() {
            return Err("no token is left: to serve without any, restart".to_owned());
        }
        if self.door.tls.is_some() && door.tls.is_none() {
            return Err("tls_cert is gone: to serve without TLS, restart".to_owned());
        }
        let read = Door::read(&door).map_err(|error| error.to_string())?;
        Ok((door, read))
    }
}

/// The logins at servers, and the certificates there. Each of them is used with the next connection.
pub(super) struct Logins {
    /// The settings at the start.
    pub(super) started: Settings,
    pub(super) redis: Option<Redis>,
    pub(super) brokers: Option<Access>,
    pub(super) group: Option<watch::Sender<GroupSettings>>,
}

impl Logins {
    /// Reads the files and puts the logins into force. Where settings have changed that need a restart, the part that
    /// they belong to stays as it is.
    fn read_again(&self, settings: &Settings) -> Result<(), ServeError> {
        let (started, read) = (self.started.without_logins(), settings.without_logins());
        check_tls(settings)?;
        if let (Some(redis), StoreSettings::Redis(login)) = (&self.redis, &settings.store)
            && started.store == read.store
        {
            redis.log_in_anew(login)?;
        }
        if let (Some(brokers), Some(sync)) = (&self.brokers, &settings.sync)
            && started.sync == read.sync
        {
            brokers.read_again(sync)?;
        }
        if let (Some(group), Some(servers)) = (&self.group, &settings.group)
            && started.group == read.group
        {
            group.send_replace(servers.clone());
        }
        Ok(())
    }
}

/// Puts reloaded settings into force, for ever. Settings that cannot be read change nothing.
pub(super) async fn reload(
    mut reloads: mpsc::Receiver<Reload>,
    (mut keeper, logins): (Keeper, Logins),
    metrics: Arc<Metrics>,
) {
    while let Some(Reload { settings, done }) = reloads.recv().await {
        let read = settings.map_err(|error| error.to_string());
        let read = read.and_then(|settings| {
            let read = keeper.read_again(settings.door.clone())?;
            let logins = logins.read_again(&settings);
            logins.map_err(|error| error.to_string())?;
            Ok(read)
        });
        if done.send(read.is_ok()).is_err() {
            tracing::debug!("the requester of the reload is gone");
        }
        match read {
            Ok((settings, door)) => {
                keeper.door = settings;
                keeper.rules.send_replace(door.rules);
                keeper.http.send_replace(door.http);
                keeper.xds.send_replace(door.xds);
                tracing::info!("tokens, certificates and logins are read again");
            }
            Err(error) => {
                metrics.reloads_failed.inc();
                tracing::error!(%error, "the last settings stay in force");
            }
        }
    }
    // No reload comes any more: these settings stay in force.
    std::future::pending().await
}
