//! What the servers of a unit's group shall be.

use std::path::PathBuf;

use super::{TlsFiles, Url};

/// The servers of a group, and how they shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSettings {
    /// All of them, one or more. The first is the primary of a group that is new.
    pub servers: Vec<Url>,
    /// For those that speak TLS: that of the store.
    pub tls: TlsFiles,
    /// How they keep data on disk.
    pub persistence: Persistence,
    /// So many replicas must be there for a write to be taken.
    pub min_replicas: u64,
    /// The file of the fixed data, JSON Lines.
    pub fixed_data: Option<PathBuf>,
}

/// How a server keeps data on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Snapshots.
    Rdb,
    /// A log of changes.
    Aof,
    /// Both.
    Both,
    /// Nothing is kept.
    None,
}

impl Persistence {
    /// Every name, as the settings have it.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("rdb", Self::Rdb),
        ("aof", Self::Aof),
        ("both", Self::Both),
        ("none", Self::None),
    ];

    /// As the settings have it.
    pub fn as_str(self) -> &'static str {
        let name = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        name.map_or("?", |(name, _)| name)
    }

    /// Whether there is a log of changes.
    pub fn has_log(self) -> bool {
        matches!(self, Self::Aof | Self::Both)
    }

    /// Whether there are snapshots.
    pub fn has_snapshots(self) -> bool {
        matches!(self, Self::Rdb | Self::Both)
    }
}
