//! Observed and wanted state of the servers → actions, or why none is allowed.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::config::Persistence;
use crate::store::LAYOUT;

/// The observed state of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    pub address: SocketAddr,
    /// The primary that it replicates from, and the state of that link; `None` for a primary.
    pub replicates: Option<(SocketAddr, Link)>,
    /// Whether it is part of a Redis Cluster.
    pub in_cluster: bool,
    /// How many keys it holds.
    pub keys: u64,
    /// The layout of this unit's data there.
    pub layout: Option<u64>,
    /// `CONFIG GET appendonly`.
    pub appendonly: bool,
    /// `CONFIG GET appendfsync`.
    pub appendfsync: String,
    /// `CONFIG GET save`.
    pub save: String,
    /// `CONFIG GET min-replicas-to-write`.
    pub min_replicas: u64,
    /// It is loading its data, or rewriting its log.
    pub is_busy: bool,
    /// Version and checksum of the fixed data there.
    pub fixed: Option<(u64, String)>,
}

/// The state of a replica's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// The replica has all data of the primary, except for what is on its way.
    Up,
    /// The link is down, or the first copy is not complete.
    Down,
}

/// The wanted state of all servers.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The persistence of all servers.
    pub persistence: Persistence,
    /// See [`crate::config::GroupSettings::min_replicas`].
    pub min_replicas: u64,
    /// The checksum of the fixed data, if there are any.
    pub fixed: Option<String>,
    /// Servers whose data may be replaced by the primary's.
    pub force: BTreeSet<SocketAddr>,
}

/// An action on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub server: SocketAddr,
    pub what: Step,
}

/// The effect of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write the layout of this unit's data.
    WriteLayout,
    /// `CONFIG SET`.
    Set(&'static str, String),
    /// `REPLICAOF`.
    Replicate(SocketAddr),
    /// Wait: the server finishes by itself.
    Wait(&'static str),
    /// Load the fixed data, as this version.
    LoadFixed(u64),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server;
        match &self.what {
            Step::WriteLayout => write!(f, "{server}: data structure: write layout {LAYOUT}"),
            Step::Set(name, value) => {
                let step = match *name {
                    "min-replicas-to-write" => "replication",
                    _ => "persistence",
                };
                write!(f, "{server}: {step}: set {name} to {value:?}")
            }
            Step::Replicate(primary) => write!(f, "{server}: replication: follow {primary}"),
            Step::Wait(what) => write!(f, "{server}: wait: {what}"),
            Step::LoadFixed(version) => write!(f, "{server}: fixed data: load version {version}"),
        }
    }
}

/// Why a server must not be touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The server holds foreign data.
    #[error(
        "{server}: holds {keys} keys and no layout of this unit: these are somebody else's data; \
         take an empty server or database"
    )]
    Foreign {
        server: SocketAddr,
        /// How many keys it has.
        keys: u64,
    },
    /// The server is part of a Redis Cluster.
    #[error(
        "{server}: is part of a Redis Cluster, which sets up its own replication: create it with `redis-cli \
         --cluster create`, point store.redis_url at it, and `unitring serve` writes the layout"
    )]
    InCluster { server: SocketAddr },
    /// A newer program wrote the data.
    #[error(
        "{server}: holds layout {found}, newer than {LAYOUT}, which this program knows: update it"
    )]
    Newer {
        server: SocketAddr,
        /// Its layout.
        found: u64,
    },
    /// The server replicates from a server outside the group.
    #[error(
        "{server}: is a replica of {of}, which is not in group.servers: name that server, too, or \
         run `redis-cli -h HOST -p PORT REPLICAOF NO ONE` on the replica first"
    )]
    ReplicaOfAnother {
        server: SocketAddr,
        /// The primary that it follows.
        of: SocketAddr,
    },
    /// The server would lose its own data.
    #[error(
        "{server}: is a primary with {keys} keys of its own, which would be lost as a replica of \
         {primary}; if that is what you want: --force-replica {server}"
    )]
    WouldLose {
        server: SocketAddr,
        /// How many keys it has.
        keys: u64,
        /// The primary that it would follow.
        primary: SocketAddr,
    },
    /// The server is named twice.
    #[error("{server}: is named twice in group.servers")]
    Twice { server: SocketAddr },
}

/// The primary that another server replicates from, else one with our layout, else the first
/// server.
pub(crate) fn primary(servers: &[Observed]) -> Option<&Observed> {
    let by_address = |address| servers.iter().find(|server| server.address == address);
    let followed = servers
        .iter()
        .filter_map(|server| by_address(server.replicates?.0))
        .find(|server| server.replicates.is_none());
    let with_data = || {
        let mut own = servers.iter().filter(|server| server.replicates.is_none());
        own.find(|server| server.layout.is_some())
    };
    followed.or_else(with_data).or_else(|| servers.first())
}

/// The actions, in order; none if the group is as wanted.
///
/// # Errors Every reason why a server must not be touched; then no server is.
pub(crate) fn plan(servers: &[Observed], wanted: &Wanted) -> Result<Vec<Action>, Vec<Refusal>> {
    let Some(primary) = primary(servers) else {
        return Ok(Vec::new());
    };
    let refused = refusals(servers, primary, wanted);
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut actions = Vec::new();
    let mut add = |server: &Observed, what| {
        actions.push(Action {
            server: server.address,
            what,
        });
    };
    if primary.layout.is_none() {
        add(primary, Step::WriteLayout);
    }
    for server in servers {
        for step in persistence(server, wanted.persistence) {
            add(server, step);
        }
    }
    for server in servers {
        if server.address == primary.address {
            continue;
        }
        match server.replicates {
            Some((of, Link::Up)) if of == primary.address => {
                // The primary's layout and fixed data are complete once every replica has them.
                let theirs = (primary.layout, &primary.fixed);
                if (server.layout, &server.fixed) != theirs {
                    add(
                        server,
                        Step::Wait("the replica receives the primary's data"),
                    );
                }
            }
            Some((of, Link::Down)) if of == primary.address => {
                add(server, Step::Wait("the replica catches up"));
            }
            _ => add(server, Step::Replicate(primary.address)),
        }
    }
    // On all servers, as a fail-over may make any of them the primary.
    for server in servers {
        if server.min_replicas != wanted.min_replicas {
            let value = wanted.min_replicas.to_string();
            add(server, Step::Set("min-replicas-to-write", value));
        }
    }
    if let Some(checksum) = &wanted.fixed {
        match &primary.fixed {
            Some((_, there)) if there == checksum => {}
            there => {
                let version = there.as_ref().map_or(0, |(version, _)| *version);
                add(primary, Step::LoadFixed(version.saturating_add(1)));
            }
        }
    }
    Ok(actions)
}

fn refusals(servers: &[Observed], primary: &Observed, wanted: &Wanted) -> Vec<Refusal> {
    let mut refused = Vec::new();
    let mut seen = BTreeSet::new();
    for server in servers {
        let (address, keys) = (server.address, server.keys);
        if !seen.insert(address) {
            refused.push(Refusal::Twice { server: address });
            continue;
        }
        if server.in_cluster {
            refused.push(Refusal::InCluster { server: address });
            continue;
        }
        if let Some(found) = server.layout.filter(|layout| *layout > LAYOUT) {
            refused.push(Refusal::Newer {
                server: address,
                found,
            });
            continue;
        }
        match server.replicates {
            Some((of, _)) if !servers.iter().any(|server| server.address == of) => {
                refused.push(Refusal::ReplicaOfAnother {
                    server: address,
                    of,
                });
            }
            Some(_) => {}
            None if address == primary.address && keys > 0 && server.layout.is_none() => {
                refused.push(Refusal::Foreign {
                    server: address,
                    keys,
                });
            }
            None if address == primary.address => {}
            None if keys > 0 && !wanted.force.contains(&address) => {
                refused.push(Refusal::WouldLose {
                    server: address,
                    keys,
                    primary: primary.address,
                });
            }
            None => {}
        }
    }
    refused
}

/// Redis' own default snapshots.
const SAVE: &str = "3600 1 300 100 60 10000";

fn persistence(server: &Observed, wanted: Persistence) -> Vec<Step> {
    let mut steps = Vec::new();
    if server.appendonly != wanted.has_log() {
        let value = if wanted.has_log() { "yes" } else { "no" };
        steps.push(Step::Set("appendonly", value.to_owned()));
    }
    // `always` is stronger than required, and stays.
    if wanted.has_log() && server.appendfsync == "no" {
        steps.push(Step::Set("appendfsync", "everysec".to_owned()));
    }
    // An operator's own schedule of snapshots stays.
    if wanted.has_snapshots() && server.save.is_empty() {
        steps.push(Step::Set("save", SAVE.to_owned()));
    }
    if !wanted.has_snapshots() && !server.save.is_empty() {
        steps.push(Step::Set("save", String::new()));
    }
    if server.is_busy {
        steps.push(Step::Wait("it loads, or writes its log"));
    }
    steps
}

#[cfg(test)]
mod tests;
