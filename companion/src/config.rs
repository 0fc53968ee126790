//! File, environment and flags → the settings that the companion runs with.
//!
//! Invariant: a [`Settings`] is valid; its holder checks nothing again. This file reads no files or
//! environment: [`raw`] and the command line do.

mod door;
mod duration;
mod group;
mod log;
pub(crate) mod raw;
mod secret;
mod sections;
mod shown;
pub(crate) mod topology;
mod trace;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use unitring_protocol::ids::UnitId;

use crate::files;
pub(crate) use door::{DoorSettings, TlsServer};
pub(crate) use door::{TOKEN, is_safe, is_token};
pub(crate) use duration::{any_duration, duration_within};
pub(crate) use duration::{parse_duration, show_duration};
pub(crate) use group::{GroupSettings, Persistence};
pub(crate) use log::LOG_FORMAT;
pub(crate) use log::{LogFormat, LogSettings};
use raw::{Raw, Said};
pub(crate) use secret::Secret;
pub use secret::Url;
pub(crate) use trace::TraceSettings;

/// The default file of the embedded store.
const STORE_PATH: &str = "unitring.redb";
/// The default bound on ops in the outbox.
const OUTBOX_MAX: u64 = 1_000_000;
/// The default bound on their bytes.
const OUTBOX_BYTES_MAX: u64 = 256 << 20;
/// The default interval of digests.
const DIGEST_INTERVAL: Duration = Duration::from_secs(10);
/// Bounds of the interval.
const DIGEST_INTERVAL_MIN: Duration = Duration::from_millis(100);
const DIGEST_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Most units in a group, this one included.
pub(crate) const UNITS_MAX: usize = 16;
/// The default of how long tombstones and expired records are kept at least.
const TOMBSTONES_KEPT: Duration = Duration::from_secs(3600);
/// Tombstones are kept for at least this many intervals of digests: by then every unit has sent a
/// state that it read after the deletion.
const TOMBSTONE_INTERVALS: u32 = 6;
/// The default batching delay of changes.
const LINGER: Duration = Duration::from_millis(2);
const LINGER_MAX: Duration = Duration::from_secs(1);
/// The default bound on the bytes of a unit's queue at a broker.
const QUEUE_BYTES_MAX: u64 = 1 << 30;
/// The default of records per second that repairs send.
const REPAIR_RATE: u64 = 20_000;
/// The default clock skew above which there is an alarm.
const SKEW_MAX: Duration = Duration::from_millis(500);

/// The settings that the companion runs with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub unit: UnitId,
    /// The address for HTTP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address for gRPC endpoint discovery; port 0 takes a free one.
    pub xds_listen: SocketAddr,
    /// Credentials with their roles, and how connections are encrypted.
    pub door: DoorSettings,
    /// The filter and the format of the log.
    pub log: LogSettings,
    /// Which requests are traced, and the collector; `None` traces nothing.
    pub trace: Option<TraceSettings>,
    /// The store of the unit's state.
    pub store: StoreSettings,
    /// The servers of the unit's group; `None` if the companion does not watch them.
    pub group: Option<GroupSettings>,
    /// Sync with the peers; `None` if the unit is alone.
    pub sync: Option<SyncSettings>,
}

impl Settings {
    /// The same without the logins at servers, which are read again while the process runs.
    #[must_use]
    pub(crate) fn without_logins(&self) -> Self {
        let place = |url: &Url| Url::new(url.place());
        let mut same = self.clone();
        if let StoreSettings::Redis(redis) = &mut same.store {
            redis.url = place(&redis.url);
            redis.sentinel_password = None;
        }
        if let Some(group) = &mut same.group {
            group.servers = group.servers.iter().map(place).collect();
        }
        if let Some(sync) = &mut same.sync {
            sync.amqp_url = place(&sync.amqp_url);
            let brokers = sync.brokers.iter();
            sync.brokers = brokers
                .map(|(unit, url)| (unit.clone(), place(url)))
                .collect();
        }
        same
    }
}

/// The store of the unit's state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StoreSettings {
    /// A file of this process.
    Embedded {
        /// The file, which is created if it is missing.
        path: PathBuf,
    },
    /// A Redis that all companions of the unit share.
    Redis(RedisSettings),
}

/// The connection to a unit's Redis.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisSettings {
    /// One server, Sentinels or a Redis Cluster.
    pub url: Url,
    /// The password of the Sentinels, if any.
    pub sentinel_password: Option<Secret>,
    pub tls: TlsFiles,
    /// The replicas that must have a write before it is acknowledged; `None` for none.
    pub wait: Option<Wait>,
}

impl RedisSettings {
    /// Settings with this URL and defaults.
    pub fn at(url: Url) -> Self {
        Self {
            url,
            sentinel_password: None,
            tls: TlsFiles::default(),
            wait: None,
        }
    }
}

/// Files for TLS, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The settings or flags that name them, in the order of the fields, for errors.
    pub settings: [&'static str; 3],
    /// Root certificates to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, if servers require one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How many replicas a write waits for, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub replicas: u64,
    pub timeout: Duration,
}

/// The settings of sync with the peers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SyncSettings {
    /// The broker of this unit's queue, and of all peers that have no broker of their own.
    pub amqp_url: Url,
    /// The brokers of units that have their own.
    pub brokers: BTreeMap<UnitId, Url>,
    /// The files for `amqps://`.
    pub tls: TlsFiles,
    /// The peers, at least one.
    pub peers: Vec<UnitId>,
    pub digest_interval: Duration,
    /// Most ops that the outbox keeps; peers that miss more get a repair.
    pub outbox_max: u64,
    /// Most bytes of these ops.
    pub outbox_bytes_max: u64,
    /// How long tombstones and expired records are kept at least.
    pub tombstones_kept: Duration,
    /// The batching delay of changes.
    pub linger: Duration,
    /// Most bytes of a unit's queue at a broker.
    pub queue_bytes_max: u64,
    /// Records per second that repairs send.
    pub repair_rate: u64,
    /// The clock skew above which there is an alarm.
    pub skew_max: Duration,
}

impl SyncSettings {
    /// The broker of a unit's queue.
    pub(crate) fn broker(&self, unit: &UnitId) -> &Url {
        self.brokers.get(unit).unwrap_or(&self.amqp_url)
    }
}

/// Why the settings are invalid. The process ends with exit code 64.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file could not be read.
    #[error("--config {path}: {}", files::why(source))]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: {message}")]
    Syntax {
        path: PathBuf,
        /// The place and the reason.
        message: String,
    },
    /// A field breaks its rule.
    #[error("{path}: {value}: {rule}")]
    Field {
        /// The field, as `store.kind`.
        path: String,
        /// The given value; `<redacted>` for secrets.
        value: String,
        rule: String,
    },
    /// A field that breaks its rule, and whose value may be a secret.
    #[error("{path}: {rule}")]
    Unshown {
        /// The field, or its file and line.
        path: String,
        rule: String,
    },
}

impl TryFrom<Raw> for Settings {
    type Error = ConfigError;

    fn try_from(mut raw: Raw) -> Result<Self, ConfigError> {
        let unit: UnitId = parsed(raw.take("unit").or("local"))?;
        let listen = address(raw.take("listen").or("127.0.0.1:7001"))?;
        let xds_listen = address(raw.take("xds_listen").or("127.0.0.1:7002"))?;
        let door = door::door(&mut raw, &[("listen", listen), ("xds_listen", xds_listen)])?;
        let log = log::log(&mut raw)?;
        let trace = trace::trace(&mut raw)?;
        let tls = sections::tls_files(&mut raw, sections::STORE_TLS)?;
        let store = sections::store(&mut raw, &tls)?;
        let group = sections::group(&mut raw, tls)?;
        let sync = sections::sync(&mut raw, &unit)?;
        raw.finish()?;
        Ok(Self {
            unit,
            listen,
            xds_listen,
            door,
            log,
            trace,
            store,
            group,
            sync,
        })
    }
}

fn parsed<T>(said: Said) -> Result<T, ConfigError>
where
    T: std::str::FromStr<Err = unitring_protocol::ids::InvalidName>,
{
    said.text
        .parse()
        .map_err(|error: unitring_protocol::ids::InvalidName| said.breaks(error.rule))
}

fn address(said: Said) -> Result<SocketAddr, ConfigError> {
    said.text
        .parse()
        .map_err(|_| said.breaks("must be an ip:port, as 127.0.0.1:7001"))
}

fn url_of(said: Said, schemes: &[&str]) -> Result<Url, ConfigError> {
    if !schemes.iter().any(|scheme| said.text.starts_with(scheme)) {
        return Err(said.breaks(&format!("must start with one of {}", schemes.join(", "))));
    }
    Ok(Url::new(said.text))
}

fn duration(said: Said) -> Result<Duration, ConfigError> {
    match parse_duration(&said.text) {
        Some(duration) if (DIGEST_INTERVAL_MIN..=DIGEST_INTERVAL_MAX).contains(&duration) => {
            Ok(duration)
        }
        _ => Err(said.breaks("must be a duration from 100ms to 1h, as \"10s\"")),
    }
}

#[cfg(test)]
mod tests;
