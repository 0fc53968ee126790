//! A server of a unit's group.

use std::fmt;

use serde::Serialize;

/// The role of a Redis server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub enum ServerRole {
    /// It was not observed.
    #[default]
    Unknown,
    Primary,
    Replica,
}

impl ServerRole {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// Whether a server's attempts to persist its data succeed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub enum Persisted {
    /// It was not observed.
    #[default]
    Unknown,
    Ok,
    LogWriteFailed,
    LogRewriteFailed,
    SnapshotFailed,
}

impl Persisted {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Ok => "ok",
            Self::LogWriteFailed => "the last write of the log failed",
            Self::LogRewriteFailed => "the last rewrite of the log failed",
            Self::SnapshotFailed => "the last snapshot failed",
        }
    }
}

impl fmt::Display for ServerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Persisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<ServerRole> for &'static str {
    fn from(role: ServerRole) -> Self {
        role.as_str()
    }
}

impl From<Persisted> for &'static str {
    fn from(state: Persisted) -> Self {
        state.as_str()
    }
}
