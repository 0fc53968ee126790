//! `group status`: the state of each server, and whether the group is as wanted.

use std::time::Duration;

use serde::{Serialize, Serializer};
use unitring_protocol::ids::UnitId;

use super::server::{Info, Server};
use crate::config::{GroupSettings, Persistence};
use crate::states::{Persisted, ServerRole};

/// A group at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Whether there are no problems.
    pub healthy: bool,
    /// The problems, a sentence each.
    pub problems: Vec<String>,
    /// The servers, in the order of the settings.
    pub servers: Vec<ServerStatus>,
}

/// A server at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct ServerStatus {
    /// Its URL without secrets.
    pub server: String,
    /// Why the server could not be observed; then the other fields mean nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub role: ServerRole,
    /// Whether it is part of a Redis Cluster.
    pub in_cluster: bool,
    /// The replication offset.
    pub offset: u64,
    /// By how many bytes a replica is behind the primary.
    pub lag_bytes: u64,
    /// Whether a replica's link is up; for a primary, whether all named replicas are connected to
    /// it.
    pub link_up: bool,
    /// Replicas that follow it.
    pub replicas: u64,
    /// How it persists its data.
    #[serde(serialize_with = "name")]
    pub persistence: Option<Persistence>,
    pub persistence_state: Persisted,
    /// Bytes of memory in use.
    pub memory_used: u64,
    /// The memory limit in bytes; 0 for none.
    pub memory_max: u64,
    /// Keys of all data, foreign ones included.
    pub keys: u64,
    /// The layout of this unit's data.
    pub layout: Option<u64>,
    /// Version and checksum of the fixed data.
    pub fixed: Option<(u64, String)>,
}

impl Status {
    /// The memory of the fullest server, as a part of its limit; `None` if none has a limit.
    pub(crate) fn memory_ratio(&self) -> Option<f64> {
        let limited = self.servers.iter().filter(|server| server.memory_max > 0);
        #[allow(clippy::cast_precision_loss, reason = "a ratio of bytes")]
        let ratio = |server: &ServerStatus| server.memory_used as f64 / server.memory_max as f64;
        limited.map(ratio).reduce(f64::max)
    }
}

/// How long a server may take for all answers.
const TIMEOUT: Duration = Duration::from_secs(4);
/// A server that uses more than this share of its memory is near its limit.
pub(crate) const MEMORY_PERCENT_MAX: u64 = 90;
/// A replica that lags by more bytes than this is a problem.
pub(crate) const LAG_BYTES_MAX: u64 = 16 << 20;

/// Observes every server; one that does not answer is a problem in the result, and not an error.
pub(crate) async fn status(settings: &GroupSettings, unit: &UnitId) -> Status {
    let servers = settings.servers.iter().map(|url| async move {
        let look = async {
            let server = Server::connect(url, &settings.tls, unit).await?;
            let (info, observed) = (server.info().await?, server.observe().await?);
            Ok::<_, super::GroupError>((info, observed))
        };
        let name = url.to_string();
        let late = || super::GroupError::Server {
            server: name.clone(),
            why: format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        let looked = tokio::time::timeout(TIMEOUT, look).await;
        match looked.unwrap_or_else(|_| Err(late())) {
            Ok((info, observed)) => ServerStatus {
                in_cluster: observed.in_cluster,
                keys: observed.keys,
                layout: observed.layout,
                fixed: observed.fixed,
                persistence: Some(Persistence::of(
                    observed.appendonly,
                    !observed.save.is_empty(),
                )),
                ..of(name, &info)
            },
            Err(error) => ServerStatus {
                server: name,
                error: Some(error.to_string()),
                ..ServerStatus::default()
            },
        }
    });
    judge(futures::future::join_all(servers).await, settings)
}

/// The name of the kind; empty if it was not observed.
fn name<S: Serializer>(kind: &Option<Persistence>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.map_or("", Persistence::as_str))
}

fn of(server: String, info: &Info) -> ServerStatus {
    let number = |name: &str| info.get(name).and_then(|value| value.parse().ok());
    let is = |name: &str, value: &str| info.get(name).is_some_and(|found| found == value);
    let role = super::server::role(info);
    let is_replica = role == ServerRole::Replica;
    let offset = if is_replica {
        number("slave_repl_offset")
    } else {
        number("master_repl_offset")
    };
    let failed = [
        ("aof_last_write_status", Persisted::LogWriteFailed),
        ("aof_last_bgrewrite_status", Persisted::LogRewriteFailed),
        ("rdb_last_bgsave_status", Persisted::SnapshotFailed),
    ];
    let failed = failed.iter().find(|(field, _)| is(field, "err"));
    ServerStatus {
        server,
        role,
        offset: offset.unwrap_or(0),
        link_up: !is_replica || is("master_link_status", "up"),
        replicas: number("connected_slaves").unwrap_or(0),
        persistence_state: failed.map_or(Persisted::Ok, |(_, what)| *what),
        memory_used: number("used_memory").unwrap_or(0),
        memory_max: number("maxmemory").unwrap_or(0),
        ..ServerStatus::default()
    }
}

/// Judges the group as a whole.
fn judge(mut servers: Vec<ServerStatus>, settings: &GroupSettings) -> Status {
    let mut problems = Vec::new();
    let answering = |server: &&ServerStatus| server.error.is_none();
    let primaries: Vec<ServerStatus> = servers
        .iter()
        .filter(answering)
        .filter(|server| server.role == ServerRole::Primary)
        .cloned()
        .collect();
    match primaries.as_slice() {
        [] => problems.push("no primary answers".to_owned()),
        [primary] => {
            let named = u64::try_from(settings.servers.len()).unwrap_or(u64::MAX) - 1;
            if primary.replicas < named {
                problems.push(format!(
                    "{}: {} of {named} replicas follow",
                    primary.server, primary.replicas
                ));
            }
            if primary.layout.is_none() {
                problems.push(format!(
                    "{}: has no layout of this unit: run `unitring group create`",
                    primary.server
                ));
            }
        }
        // Each primary of a Redis Cluster has a part of the data; its offset does not apply to
        // another's replicas.
        several if several.iter().all(|server| server.in_cluster) => {}
        several => {
            let names: Vec<&str> = several.iter().map(|one| one.server.as_str()).collect();
            problems.push(format!("several primaries: {}", names.join(", ")));
        }
    }
    let is_cluster = primaries.iter().any(|server| server.in_cluster);
    let offset = primaries.first().filter(|_| !is_cluster);
    let offset = offset.map_or(0, |primary| primary.offset);
    for server in &mut servers {
        if let Some(error) = &server.error {
            problems.push(error.clone());
            continue;
        }
        let name = &server.server;
        if server.role == ServerRole::Replica {
            server.lag_bytes = offset.saturating_sub(server.offset);
            if !server.link_up {
                problems.push(format!("{name}: its link to the primary is down"));
            } else if server.lag_bytes > LAG_BYTES_MAX {
                problems.push(format!("{name}: is {} bytes behind", server.lag_bytes));
            }
        }
        if server.persistence_state != Persisted::Ok {
            problems.push(format!("{name}: {}", server.persistence_state));
        }
        if server.persistence != Some(settings.persistence) {
            problems.push(format!(
                "{name}: persists by {}, not by {}: run `unitring group create`",
                server.persistence.map_or("?", Persistence::as_str),
                settings.persistence.as_str()
            ));
        }
        let used = server.memory_used.saturating_mul(100);
        if server.memory_max > 0 && used / server.memory_max >= MEMORY_PERCENT_MAX {
            problems.push(format!(
                "{name}: uses {} of {} bytes of memory",
                server.memory_used, server.memory_max
            ));
        }
    }
    Status {
        healthy: problems.is_empty(),
        problems,
        servers,
    }
}
