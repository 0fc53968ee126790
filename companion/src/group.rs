//! The unit group in Redis: which servers hold a unit's data, and how they are brought to it and kept.
//!
//! Four steps, each verified on the servers themselves: the data structure (layout), the persistence,
//! the replication, the fixed data. [`plan`] decides, pure: what was observed and what is wanted → what is to
//! be done, or why nothing may be. It makes the steps idempotent: a group is created when planning
//! again finds nothing to do.

pub mod create;
pub mod fixed;
pub mod plan;
pub mod server;
pub mod status;
pub mod watch;

use std::path::PathBuf;

use crate::config::{TlsFiles, Url};

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

/// Why a group could not be created or looked at.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// A server could not be asked.
    #[error("{server}: {why}")]
    Server {
        /// Which.
        server: String,
        /// Why.
        why: String,
    },
    /// Something is there that must not be touched.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<plan::Refusal>),
    /// The fixed data are not what they must be.
    #[error("group.fixed_data {path}: {why}")]
    FixedData {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
    /// All was done, and yet the servers are not as they shall be.
    #[error("not all is done after {seconds} s; still to do:\n{left}")]
    Unfinished {
        /// How long was waited.
        seconds: u64,
        /// What is left, a line each.
        left: String,
    },
}
