//! What was said in file, environment and flags → the settings that the companion runs with.
//!
//! Invariant: a [`Settings`] is valid; whoever holds one checks nothing again. Nothing is read
//! from files or the environment here: that is [`raw`].

pub mod raw;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use unitring_protocol::ids::UnitId;

use crate::group::{GroupSettings, Persistence};
use crate::store::redis::topology::Topology;
use raw::{Raw, Said};

/// Where the embedded store lives when nobody says otherwise.
const STORE_PATH: &str = "unitring.redb";
/// Ops that may wait for the other units.
const OUTBOX_MAX: u64 = 1_000_000;
/// How often units compare.
const DIGEST_INTERVAL: Duration = Duration::from_secs(10);
/// Bounds of that.
const DIGEST_INTERVAL_MIN: Duration = Duration::from_millis(100);
const DIGEST_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Units in a group, this one included.
pub const UNITS_MAX: usize = 16;

/// What the companion runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// This unit.
    pub unit: UnitId,
    /// HTTP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// gRPC endpoint discovery; port 0 takes a free one.
    pub xds_listen: SocketAddr,
    /// What a write has to bear, if anything.
    pub token: Option<Secret>,
    /// Filter of the log, as `tracing` reads it.
    pub log: String,
    /// Where state is kept.
    pub store: StoreSettings,
    /// The servers of the unit's group; `None` if nobody shall look after them.
    pub group: Option<GroupSettings>,
    /// With whom it is kept the same; `None` if the unit is alone.
    pub sync: Option<SyncSettings>,
}

/// Where state is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreSettings {
    /// One file of this process.
    Embedded {
        /// The file; it is created.
        path: PathBuf,
    },
    /// A Redis that all companions of the unit share.
    Redis(RedisSettings),
}

/// How a unit's Redis is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisSettings {
    /// One server, Sentinels or a Redis Cluster.
    pub url: Url,
    /// What the Sentinels ask for, if anything.
    pub sentinel_password: Option<Secret>,
    /// For TLS.
    pub tls: TlsFiles,
    /// Which replicas must have a write before it is acknowledged; `None` for none.
    pub wait: Option<Wait>,
}

impl RedisSettings {
    /// Settings for this URL, with nothing else said.
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
    /// Roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, where servers ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How long a write waits for how many replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// So many must have it.
    pub replicas: u64,
    /// Within this time.
    pub timeout: Duration,
}

/// With whom state is kept the same.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncSettings {
    /// The broker of all units.
    pub amqp_url: Url,
    /// The other units, at least one.
    pub peers: Vec<UnitId>,
    /// How often digests are compared.
    pub digest_interval: Duration,
    /// Ops that may wait for the other units; beyond it writes are refused.
    pub outbox_max: u64,
}

/// A value that no log and no output shows.
#[derive(Clone, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// A secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A URL that shows itself without its password.
#[derive(Clone, PartialEq)]
pub struct Url(String);

impl Url {
    /// A URL; whoever connects to it finds out whether it is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The URL with its password.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let Some((user_info, _)) = authority.rsplit_once('@') else {
            return f.write_str(&self.0);
        };
        let user = user_info.split(':').next().unwrap_or_default();
        let after = rest.get(user_info.len()..).unwrap_or_default();
        write!(f, "{scheme}://{user}:***{after}")
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why there are no settings. The process ends with exit code 64.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A field breaks its rule.
    #[error("{path}: {value}: {rule}")]
    Field {
        /// The field, as `store.kind`.
        path: String,
        /// What was said; `<redacted>` for secrets.
        value: String,
        /// The rule it breaks.
        rule: String,
    },
}

impl TryFrom<Raw> for Settings {
    type Error = ConfigError;

    fn try_from(mut raw: Raw) -> Result<Self, ConfigError> {
        let unit: UnitId = parsed(raw.take("unit").or("local"))?;
        let listen = address(raw.take("listen").or("127.0.0.1:7001"))?;
        let xds_listen = address(raw.take("xds_listen").or("127.0.0.1:7002"))?;
        let token = raw
            .take("token")
            .secret()
            .given()
            .map(|said| Secret(said.text));
        let log = log(raw.take("log").or("info"))?;
        let tls = tls_files(&mut raw)?;
        let store = store(&mut raw, &tls)?;
        let group = group(&mut raw, tls)?;
        let sync = sync(&mut raw, &unit)?;
        raw.finish()?;
        Ok(Self {
            unit,
            listen,
            xds_listen,
            token,
            log,
            store,
            group,
            sync,
        })
    }
}

fn store(raw: &mut Raw, tls: &TlsFiles) -> Result<StoreSettings, ConfigError> {
    let url = raw.take("store.redis_url").secret().given();
    let path = raw.take("store.path").or(STORE_PATH);
    let kind = raw.take("store.kind").given();
    let wait = wait(raw)?;
    let sentinel_password = raw.take("store.sentinel_password").secret().given();
    let sentinel_password = sentinel_password.map(|said| Secret(said.text));
    match (kind.as_ref().map(|kind| kind.text.as_str()), url) {
        (None | Some("redis"), Some(url)) => {
            let read = Url(url.text.clone());
            Topology::of(&read).map_err(|rule| url.breaks(&rule))?;
            Ok(StoreSettings::Redis(RedisSettings {
                url: read,
                sentinel_password,
                tls: tls.clone(),
                wait,
            }))
        }
        (None | Some("embedded"), None) => Ok(StoreSettings::Embedded {
            path: PathBuf::from(path.text),
        }),
        (Some("embedded"), Some(url)) => {
            Err(url.breaks("must be empty where store.kind is \"embedded\""))
        }
        (Some("redis"), None) => {
            let kind = kind.unwrap_or_else(|| path.clone());
            Err(kind.breaks("needs store.redis_url"))
        }
        (Some(_), _) => {
            let kind = kind.unwrap_or_else(|| path.clone());
            Err(kind.breaks("must be \"embedded\" or \"redis\""))
        }
    }
}

fn tls_files(raw: &mut Raw) -> Result<TlsFiles, ConfigError> {
    let path = |said: Option<Said>| said.map(|said| PathBuf::from(said.text));
    let ca = path(raw.take("store.tls_ca").given());
    let certificate = raw.take("store.tls_cert").given();
    let key = raw.take("store.tls_key").given();
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate.text.into(), key.text.into())),
        (Some(certificate), None) => return Err(certificate.breaks("needs store.tls_key")),
        (None, Some(key)) => return Err(key.breaks("needs store.tls_cert")),
        (None, None) => None,
    };
    Ok(TlsFiles { ca, identity })
}

fn wait(raw: &mut Raw) -> Result<Option<Wait>, ConfigError> {
    let replicas = raw.take("store.wait_replicas").or("0");
    let timeout = raw.take("store.wait_timeout").or("1s");
    let count = match replicas.text.parse() {
        Ok(count @ 0..=16) => count,
        _ => return Err(replicas.breaks("must be a number from 0 to 16")),
    };
    let limit = parse_duration(&timeout.text);
    let bounds = Duration::from_millis(10)..=Duration::from_secs(2);
    let limit = limit.filter(|limit| bounds.contains(limit));
    let rule = "must be a duration from 10ms to 2s, as \"500ms\"";
    let timeout = limit.ok_or_else(|| timeout.breaks(rule))?;
    Ok((count > 0).then_some(Wait {
        replicas: count,
        timeout,
    }))
}

/// The most servers of a group.
const SERVERS_MAX: usize = 16;

fn group(raw: &mut Raw, tls: TlsFiles) -> Result<Option<GroupSettings>, ConfigError> {
    let servers = raw.take("group.servers").secret().given();
    let persistence = raw.take("group.persistence").or("aof");
    let min_replicas = raw.take("group.min_replicas").or("0");
    let fixed_data = raw.take("group.fixed_data").given();
    let Some(servers) = servers else {
        return Ok(None);
    };
    let names = servers.text.split(',').map(str::trim);
    let urls: Result<Vec<Url>, ConfigError> = names
        .filter(|name| !name.is_empty())
        .map(|name| url_of(servers.with(name), &["redis://", "rediss://"]))
        .collect();
    let urls = urls?;
    if urls.is_empty() || urls.len() > SERVERS_MAX {
        return Err(servers.breaks(&format!("must be 1 to {SERVERS_MAX} servers")));
    }
    let kinds = Persistence::NAMES.iter();
    let kind = kinds.clone().find(|(name, _)| *name == persistence.text);
    let Some((_, kind)) = kind else {
        let names: Vec<&str> = kinds.map(|(name, _)| *name).collect();
        return Err(persistence.breaks(&format!("must be one of {}", names.join(", "))));
    };
    let min: u64 = match min_replicas.text.parse::<usize>() {
        Ok(min) if min < urls.len() => u64::try_from(min).unwrap_or(u64::MAX),
        _ => return Err(min_replicas.breaks("must be a number below that of group.servers")),
    };
    Ok(Some(GroupSettings {
        servers: urls,
        tls,
        persistence: *kind,
        min_replicas: min,
        fixed_data: fixed_data.map(|said| PathBuf::from(said.text)),
    }))
}

fn sync(raw: &mut Raw, unit: &UnitId) -> Result<Option<SyncSettings>, ConfigError> {
    let url = raw.take("sync.amqp_url").secret().given();
    let peers_said = raw.take("sync.peers").or("");
    let interval = raw.take("sync.digest_interval").given();
    let outbox_max = match raw.take("sync.outbox_max").given() {
        None => OUTBOX_MAX,
        Some(said) => match said.text.parse() {
            Ok(max @ 1..=100_000_000) => max,
            _ => return Err(said.breaks("must be a number from 1 to 100000000")),
        },
    };
    let digest_interval = interval.map_or(Ok(DIGEST_INTERVAL), duration)?;
    let peers = peers(&peers_said, unit)?;
    match (url, peers.is_empty()) {
        (None, true) => Ok(None),
        (None, false) => Err(peers_said.breaks("needs sync.amqp_url")),
        (Some(url), true) => Err(url.breaks("needs sync.peers, the names of the other units")),
        (Some(url), false) => Ok(Some(SyncSettings {
            amqp_url: url_of(url, &["amqp://"])?,
            peers,
            digest_interval,
            outbox_max,
        })),
    }
}

fn peers(said: &Said, unit: &UnitId) -> Result<Vec<UnitId>, ConfigError> {
    let mut peers: Vec<UnitId> = Vec::new();
    let names = said.text.split(',').map(str::trim);
    for name in names.filter(|name| !name.is_empty()) {
        let peer: UnitId = parsed(said.with(name))?;
        if peer == *unit {
            return Err(said.breaks("must name the other units, not this one"));
        }
        if peers.contains(&peer) {
            return Err(said.breaks("must name each unit once"));
        }
        peers.push(peer);
    }
    if peers.len() >= UNITS_MAX {
        return Err(said.breaks("must be at most 15 units"));
    }
    Ok(peers)
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

fn log(said: Said) -> Result<String, ConfigError> {
    match said.text.parse::<tracing_subscriber::filter::Targets>() {
        Ok(_) => Ok(said.text),
        Err(_) => {
            Err(said.breaks("must be a level (error, warn, info, debug, trace) or target=level,…"))
        }
    }
}

fn url_of(said: Said, schemes: &[&str]) -> Result<Url, ConfigError> {
    if schemes.iter().any(|scheme| said.text.starts_with(scheme)) {
        return Ok(Url(said.text));
    }
    Err(said.breaks(&format!("must start with one of {}", schemes.join(", "))))
}

fn duration(said: Said) -> Result<Duration, ConfigError> {
    match parse_duration(&said.text) {
        Some(duration) if (DIGEST_INTERVAL_MIN..=DIGEST_INTERVAL_MAX).contains(&duration) => {
            Ok(duration)
        }
        _ => Err(said.breaks("must be a duration from 100ms to 3600s, as \"10s\"")),
    }
}

/// Reads `250ms`, `5s` or `2m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

impl fmt::Display for Settings {
    /// The effective settings as TOML, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_some() {
            "<redacted>"
        } else {
            ""
        };
        writeln!(f, "unit = {:?}", self.unit.as_str())?;
        writeln!(f, "listen = \"{}\"", self.listen)?;
        writeln!(f, "xds_listen = \"{}\"", self.xds_listen)?;
        writeln!(f, "token = {token:?}")?;
        writeln!(f, "log = {:?}", self.log)?;
        writeln!(f, "\n[store]")?;
        match &self.store {
            StoreSettings::Embedded { path } => {
                writeln!(
                    f,
                    "kind = \"embedded\"\npath = {:?}",
                    path.display().to_string()
                )?;
            }
            StoreSettings::Redis(redis) => {
                writeln!(f, "kind = \"redis\"\nredis_url = \"{}\"", redis.url)?;
                if redis.sentinel_password.is_some() {
                    writeln!(f, "sentinel_password = \"<redacted>\"")?;
                }
                if let Some(ca) = &redis.tls.ca {
                    writeln!(f, "tls_ca = {:?}", ca.display().to_string())?;
                }
                if let Some((certificate, key)) = &redis.tls.identity {
                    writeln!(f, "tls_cert = {:?}", certificate.display().to_string())?;
                    writeln!(f, "tls_key = {:?}", key.display().to_string())?;
                }
                if let Some(wait) = redis.wait {
                    writeln!(f, "wait_replicas = {}", wait.replicas)?;
                    writeln!(f, "wait_timeout = \"{}ms\"", wait.timeout.as_millis())?;
                }
            }
        }
        if let Some(group) = &self.group {
            let servers: Vec<String> = group.servers.iter().map(Url::to_string).collect();
            writeln!(f, "\n[group]\nservers = {servers:?}")?;
            writeln!(f, "persistence = \"{}\"", group.persistence.as_str())?;
            writeln!(f, "min_replicas = {}", group.min_replicas)?;
            if let Some(path) = &group.fixed_data {
                writeln!(f, "fixed_data = {:?}", path.display().to_string())?;
            }
        }
        writeln!(f, "\n[sync]")?;
        let Some(sync) = &self.sync else {
            return writeln!(f, "amqp_url = \"\"\npeers = []");
        };
        let peers: Vec<&str> = sync.peers.iter().map(UnitId::as_str).collect();
        writeln!(f, "amqp_url = \"{}\"\npeers = {peers:?}", sync.amqp_url)?;
        writeln!(
            f,
            "digest_interval = \"{}ms\"",
            sync.digest_interval.as_millis()
        )?;
        writeln!(f, "outbox_max = {}", sync.outbox_max)
    }
}

#[cfg(test)]
mod tests;
