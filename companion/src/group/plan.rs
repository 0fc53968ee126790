//! What was observed on the servers, and what is wanted → what is to be done, or why nothing may be.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::config::Persistence;
use crate::store::LAYOUT;

/// What a server was seen to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Where it is.
    pub address: SocketAddr,
    /// Whom it replicates from, and whether that goes well; `None` for a primary.
    pub replicates: Option<(SocketAddr, Link)>,
    /// It is part of a Redis Cluster.
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
    /// It loads, or writes its log anew.
    pub is_busy: bool,
    /// Version and checksum of the fixed data there.
    pub fixed: Option<(u64, String)>,
}

/// How a replica follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It has what the primary has, up to what is on its way.
    Up,
    /// Not yet, or not now.
    Down,
}

/// What is wanted of all of them.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// How data is kept on disk.
    pub persistence: Persistence,
    /// See [`crate::config::GroupSettings::min_replicas`].
    pub min_replicas: u64,
    /// The checksum of the fixed data, if there are some.
    pub fixed: Option<String>,
    /// Servers whose data may be replaced by the primary's.
    pub force: BTreeSet<SocketAddr>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// On which server.
    pub server: SocketAddr,
    /// What.
    pub what: Step,
}

/// What is done to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The layout of this unit's data is written.
    WriteLayout,
    /// `CONFIG SET`.
    Set(&'static str, String),
    /// `REPLICAOF`.
    Replicate(SocketAddr),
    /// The server finishes by itself: wait.
    Wait(&'static str),
    /// The fixed data are written, as this version.
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
pub enum Refusal {
    /// Not ours.
    #[error(
        "{server}: holds {keys} keys and no layout of this unit: these are somebody else's data; \
         take an empty server or database"
    )]
    Foreign {
        /// Which server.
        server: SocketAddr,
        /// How many keys it has.
        keys: u64,
    },
    /// In a Redis Cluster.
    #[error(
        "{server}: is part of a Redis Cluster, which sets up its own replication: create it with `redis-cli \
         --cluster create`, point store.redis_url at it, and `unitring serve` writes the layout"
    )]
    InCluster {
        /// Which server.
        server: SocketAddr,
    },
    /// Of a later program.
    #[error(
        "{server}: holds layout {found}, newer than {LAYOUT}, which this program knows: update it"
    )]
    Newer {
        /// Which server.
        server: SocketAddr,
        /// Its layout.
        found: u64,
    },
    /// In another group.
    #[error(
        "{server}: is a replica of {of}, which is not in group.servers: name that server, too, or \
         run `redis-cli -h HOST -p PORT REPLICAOF NO ONE` on the replica first"
    )]
    ReplicaOfAnother {
        /// Which server.
        server: SocketAddr,
        /// Whom it follows.
        of: SocketAddr,
    },
    /// Would lose what it has.
    #[error(
        "{server}: is a primary with {keys} keys of its own, which would be lost as a replica of \
         {primary}; if that is what you want: --force-replica {server}"
    )]
    WouldLose {
        /// Which server.
        server: SocketAddr,
        /// How many keys it has.
        keys: u64,
        /// Whom it would follow.
        primary: SocketAddr,
    },
    /// Twice the same.
    #[error("{server}: is named twice in group.servers")]
    Twice {
        /// Which server.
        server: SocketAddr,
    },
}

/// The primary that the servers have, or the first one.
pub fn primary(servers: &[Observed]) -> Option<&Observed> {
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

/// What is to be done, in order; nothing, if the group is as it shall be.
///
/// # Errors
/// Every reason why a server must not be touched; then none of them is.
pub fn plan(servers: &[Observed], wanted: &Wanted) -> Result<Vec<Action>, Vec<Refusal>> {
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
                // What the primary has is done when everybody has it.
                let theirs = (primary.layout, &primary.fixed);
                if (server.layout, &server.fixed) != theirs {
                    add(server, Step::Wait("the replica gets what the primary has"));
                }
            }
            Some((of, Link::Down)) if of == primary.address => {
                add(server, Step::Wait("the replica catches up"));
            }
            _ => add(server, Step::Replicate(primary.address)),
        }
    }
    // Any of them may become the primary, by a fail-over.
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

/// Snapshots as Redis itself takes them.
const SAVE: &str = "3600 1 300 100 60 10000";

fn persistence(server: &Observed, wanted: Persistence) -> Vec<Step> {
    let mut steps = Vec::new();
    if server.appendonly != wanted.has_log() {
        let value = if wanted.has_log() { "yes" } else { "no" };
        steps.push(Step::Set("appendonly", value.to_owned()));
    }
    // `always` is more than is asked for, and stays.
    if wanted.has_log() && server.appendfsync == "no" {
        steps.push(Step::Set("appendfsync", "everysec".to_owned()));
    }
    // An operator's own points in time stay.
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
