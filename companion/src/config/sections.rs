//! The tables of the file, each with its rules: `[store]`, `[group]`, `[sync]`.

use std::path::PathBuf;
use std::time::Duration;

use unitring_protocol::ids::UnitId;

use super::raw::{Raw, Said};
use super::{
    ConfigError, DIGEST_INTERVAL, OUTBOX_MAX, RedisSettings, STORE_PATH, Secret, StoreSettings,
    SyncSettings, TlsFiles, UNITS_MAX, Url, Wait, duration, parse_duration, parsed, url_of,
};
use crate::group::{GroupSettings, Persistence};
use crate::store::redis::topology::Topology;

pub(super) fn store(raw: &mut Raw, tls: &TlsFiles) -> Result<StoreSettings, ConfigError> {
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

pub(super) fn tls_files(raw: &mut Raw) -> Result<TlsFiles, ConfigError> {
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

pub(super) fn sync(raw: &mut Raw, unit: &UnitId) -> Result<Option<SyncSettings>, ConfigError> {
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
