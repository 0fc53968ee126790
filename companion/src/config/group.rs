//! The wanted state of the servers of a unit's group.

use std::path::PathBuf;

use super::{TlsFiles, Url};

/// The servers of a group, and their wanted state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GroupSettings {
    /// All servers, one or more. In a new group the first is the primary.
    pub servers: Vec<Url>,
    /// The files for servers with TLS: those of the store.
    pub tls: TlsFiles,
    pub persistence: Persistence,
    /// How many replicas must be connected for a primary to take a write.
    pub min_replicas: u64,
    /// The file of the fixed data, JSON Lines.
    pub fixed_data: Option<PathBuf>,
}

/// How a server persists its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    Rdb,
    /// An append-only log.
    Aof,
    Both,
    None,
}

impl Persistence {
    /// The names in the settings.
    pub(crate) const NAMES: [(&'static str, Self); 4] = [
        ("rdb", Self::Rdb),
        ("aof", Self::Aof),
        ("both", Self::Both),
        ("none", Self::None),
    ];

    pub(crate) fn of(has_log: bool, has_snapshots: bool) -> Self {
        match (has_log, has_snapshots) {
            (true, true) => Self::Both,
            (true, false) => Self::Aof,
            (false, true) => Self::Rdb,
            (false, false) => Self::None,
        }
    }

    /// The name in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        let name = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        name.map_or("?", |(name, _)| name)
    }

    /// Whether there is an append-only log.
    pub(crate) fn has_log(self) -> bool {
        matches!(self, Self::Aof | Self::Both)
    }

    /// Whether there are snapshots.
    pub(crate) fn has_snapshots(self) -> bool {
        matches!(self, Self::Rdb | Self::Both)
    }
}
