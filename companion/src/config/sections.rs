//! The tables of the file, each with its rules: `[store]`, `[group]`, `[sync]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::AMQPUri;
use unitring_protocol::ids::UnitId;

use super::raw::{Raw, Said};
use super::secret::ENCODED;
use super::topology::Topology;
use super::{
    ConfigError, DIGEST_INTERVAL, GroupSettings, LINGER, LINGER_MAX, OUTBOX_BYTES_MAX, OUTBOX_MAX,
    Persistence, QUEUE_BYTES_MAX, REPAIR_RATE, RedisSettings, SKEW_MAX, STORE_PATH, Secret,
    StoreSettings, SyncSettings, TOMBSTONE_INTERVALS, TOMBSTONES_KEPT, TlsFiles, UNITS_MAX, Url,
    Wait, duration, parse_duration, parsed, show_duration, url_of,
};

pub(super) fn store(raw: &mut Raw, tls: &TlsFiles) -> Result<StoreSettings, ConfigError> {
    let url = raw.take("store.redis_url").secret().given();
    let path = raw.take("store.path").or(STORE_PATH);
    let kind = raw.take("store.kind").given();
    let wait = wait(raw)?;
    let sentinel_password = raw.take("store.sentinel_password").secret().given();
    let sentinel_password = sentinel_password.map(|said| Secret::new(said.text));
    match (kind.as_ref().map(|kind| kind.text.as_str()), url) {
        (None | Some("redis"), Some(url)) => {
            let read = Url::new(url.text.clone());
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
            Err(kind.is_none_of(&["embedded", "redis"]))
        }
    }
}

/// The fields of the files for TLS: roots, certificate and key.
pub(super) const STORE_TLS: [&str; 3] = ["store.tls_ca", "store.tls_cert", "store.tls_key"];
const SYNC_TLS: [&str; 3] = ["sync.tls_ca", "sync.tls_cert", "sync.tls_key"];

pub(super) fn tls_files(
    raw: &mut Raw,
    settings: [&'static str; 3],
) -> Result<TlsFiles, ConfigError> {
    let [ca, certificate, key] = settings;
    let path = |said: Option<Said>| said.map(|said| PathBuf::from(said.text));
    let needs = |name: &str| format!("needs {name}");
    let names = (certificate, key);
    let ca = path(raw.take(ca).given());
    let identity = match (raw.take(certificate).given(), raw.take(key).given()) {
        (Some(certificate), Some(key)) => Some((certificate.text.into(), key.text.into())),
        (Some(certificate), None) => return Err(certificate.breaks(&needs(names.1))),
        (None, Some(key)) => return Err(key.breaks(&needs(names.0))),
        (None, None) => None,
    };
    Ok(TlsFiles {
        settings,
        ca,
        identity,
    })
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

/// Most servers of a group.
const SERVERS_MAX: usize = 16;

pub(super) fn group(raw: &mut Raw, tls: TlsFiles) -> Result<Option<GroupSettings>, ConfigError> {
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
        .map(|name| {
            let url = url_of(servers.with(name), &["redis://", "rediss://"])?;
            Topology::of(&url).map_err(|rule| servers.breaks(&rule))?;
            Ok(url)
        })
        .collect();
    let urls = urls?;
    if urls.is_empty() || urls.len() > SERVERS_MAX {
        return Err(servers.breaks(&format!("must be 1 to {SERVERS_MAX} servers")));
    }
    let kinds = Persistence::NAMES.iter();
    let kind = kinds.clone().find(|(name, _)| *name == persistence.text);
    let Some((_, kind)) = kind else {
        let names: Vec<&str> = kinds.map(|(name, _)| *name).collect();
        return Err(persistence.is_none_of(&names));
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

/// The schemes of a broker's URL.
const AMQP: [&str; 2] = ["amqp://", "amqps://"];

pub(super) fn sync(raw: &mut Raw, unit: &UnitId) -> Result<Option<SyncSettings>, ConfigError> {
    let url = raw.take("sync.amqp_url").secret().given();
    let brokers_said = raw.take("sync.brokers").secret().given();
    let peers_said = raw.take("sync.peers").or("");
    let interval = raw.take("sync.digest_interval").given();
    let digest_interval = interval.map_or(Ok(DIGEST_INTERVAL), duration)?;
    let outbox_max = number(raw.take("sync.outbox_max"), OUTBOX_MAX, 1, 100_000_000)?;
    let bytes_max = raw.take("sync.outbox_bytes_max");
    let outbox_bytes_max = number(bytes_max, OUTBOX_BYTES_MAX, 1 << 20, 1 << 50)?;
    let tombstones_kept = tombstones_kept(raw.take("sync.tombstones_kept"), digest_interval)?;
    let linger = within(raw.take("sync.linger"), LINGER, Duration::ZERO, LINGER_MAX)?;
    let least = 16 << 20;
    let queue_bytes_max = raw.take("sync.queue_bytes_max");
    let queue_bytes_max = number(queue_bytes_max, QUEUE_BYTES_MAX, least, 1 << 50)?;
    let repair_rate = number(raw.take("sync.repair_rate"), REPAIR_RATE, 0, 10_000_000)?;
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_secs(3600));
    let skew_max = within(raw.take("sync.skew_max"), SKEW_MAX, shortest, longest)?;
    let tls = tls_files(raw, SYNC_TLS)?;
    let peers = peers(&peers_said, unit)?;
    let brokers = match &brokers_said {
        Some(said) => brokers(said, &peers)?,
        None => BTreeMap::new(),
    };
    match (url, peers.is_empty()) {
        (None, true) => Ok(None),
        (None, false) => Err(peers_said.breaks("needs sync.amqp_url")),
        (Some(url), true) => Err(url.breaks("needs sync.peers, the names of the other units")),
        (Some(url), false) => Ok(Some(SyncSettings {
            amqp_url: amqp(url)?,
            brokers,
            tls,
            peers,
            digest_interval,
            outbox_max,
            outbox_bytes_max,
            tombstones_kept,
            linger,
            queue_bytes_max,
            repair_rate,
            skew_max,
        })),
    }
}

fn amqp(said: Said) -> Result<Url, ConfigError> {
    let url = url_of(said.clone(), &AMQP)?;
    if url.has_late_at() {
        return Err(said.breaks(ENCODED));
    }
    // The parser's own error may repeat parts of the URL.
    let is_valid = url.reveal().parse::<AMQPUri>().is_ok();
    match is_valid {
        true => Ok(url),
        false => Err(said.breaks("must be a URL as amqp://user:password@host:5672/vhost")),
    }
}

fn number(said: Said, default: u64, least: u64, most: u64) -> Result<u64, ConfigError> {
    let Some(said) = said.given() else {
        return Ok(default);
    };
    match said.text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(said.breaks(&format!("must be a number from {least} to {most}"))),
    }
}

fn within(
    said: Said,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, ConfigError> {
    let Some(said) = said.given() else {
        return Ok(default);
    };
    match parse_duration(&said.text) {
        Some(duration) if (least..=most).contains(&duration) => Ok(duration),
        _ => Err(said.breaks(&format!(
            "must be a duration from {} to {}, as \"{}\"",
            show_duration(least),
            show_duration(most),
            show_duration(default)
        ))),
    }
}

fn tombstones_kept(said: Said, digest_interval: Duration) -> Result<Duration, ConfigError> {
    let least = digest_interval * TOMBSTONE_INTERVALS;
    let most = Duration::from_secs(366 * 24 * 3600);
    within(said, TOMBSTONES_KEPT.max(least), least, most)
}

/// Parses `west=amqp://…`, comma separated.
fn brokers(said: &Said, peers: &[UnitId]) -> Result<BTreeMap<UnitId, Url>, ConfigError> {
    let mut brokers = BTreeMap::new();
    let items = said.text.split(',').map(str::trim);
    for item in items.filter(|item| !item.is_empty()) {
        let Some((unit, url)) = item.split_once('=') else {
            return Err(said.breaks("must be unit=url for each unit that has a broker of its own"));
        };
        let unit: UnitId = parsed(said.with(unit.trim()))?;
        if !peers.contains(&unit) {
            return Err(said.breaks(&format!("{unit} is not in sync.peers")));
        }
        let url = amqp(said.with(url.trim()))?;
        if brokers.insert(unit, url).is_some() {
            return Err(said.breaks("must name each unit once"));
        }
    }
    Ok(brokers)
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
