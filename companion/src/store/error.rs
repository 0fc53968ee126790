//! Why a store could not do what was requested.

use std::path::PathBuf;

use unitring_protocol::ids::ReporterId;

use crate::replica::bounds::Fault;
use crate::replica::{ClockAhead, InvalidMark};
use crate::tls::FileError;
use crate::trace::Failure;

impl Failure for StoreError {
    /// Without what the store has: a record's name may be in that.
    fn word(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::NotReplicated { .. } => "not replicated",
            Self::OutboxFull { .. } | Self::OutboxBytesFull { .. } => "outbox full",
            Self::Corrupt(_) => "corrupt",
            _ => "refused",
        }
    }
}

/// Why a store could not do what was requested. Nothing was changed, unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer, or is not ready. Whether a change was made is unknown.
    #[error("the store is away: {0}")]
    Away(String),
    /// A write was made, but fewer replicas confirmed it in time than required.
    #[error(
        "stored, but {has} of {wanted} replicas have it in time: it may be lost with the primary; write it \
         again"
    )]
    NotReplicated {
        /// How many replicas have it.
        has: u64,
        /// How many must have it.
        wanted: u64,
    },
    /// Too many ops wait for the other units.
    #[error("the outbox is full: {waiting} ops wait for other units, twice outbox_max is {max}")]
    OutboxFull {
        /// How many ops wait.
        waiting: u64,
        /// The most that may wait.
        max: u64,
    },
    /// The waiting ops have too many bytes.
    #[error(
        "the outbox is full: {bytes} bytes wait for other units, twice outbox_bytes_max is {max}"
    )]
    OutboxBytesFull {
        /// How many bytes wait.
        bytes: u64,
        /// The most that may wait.
        max: u64,
    },
    /// A setting that all companions of the unit must share differs.
    #[error(
        "this companion's configuration is not that of its unit: it has {ours}, the store says {theirs}. Set it \
         as there, or make it the unit's with `unitring unit agree`, and restart the others"
    )]
    Disagrees {
        /// This companion's settings.
        ours: String,
        /// The unit's settings in the store.
        theirs: String,
    },
    /// This unit is no longer a member of its group.
    #[error(
        "this unit was removed from its group: no unit would receive its writes. Empty its store, and \
         have another unit add it"
    )]
    Removed,
    /// A bound of the store is reached.
    #[error("{what}: at most {max}")]
    TooMany { what: &'static str, max: u64 },
    /// A living reporter of this name is another client's.
    #[error("reporter {0}: another client reports by this name")]
    NotYours(ReporterId),
    /// A record breaks a bound that holds in all units.
    #[error("refused: {0}")]
    OutOfBounds(String),
    /// The bucket's clock is this many ms ahead of this one.
    #[error(
        "the record's bucket was written by a clock that is {0} ms ahead of this one: no other unit would take \
         it. Set this machine's clock; if it is right, `unitring unit repair --clocks` leads back"
    )]
    ClockAhead(u64),
    /// Other processes kept changing the same data.
    #[error("other processes kept changing {0}: try again")]
    Contended(&'static str),
    /// A newer program wrote the store.
    #[error("the store has layout {found}, newer than {known}: update unitring")]
    Newer {
        /// The layout of the store.
        found: u64,
        /// The layout that this program writes.
        known: u64,
    },
    /// An older program wrote the store, in a layout that this one does not read.
    #[error(
        "the store has layout {found}, this program writes {known}: export with the program that wrote it \
         (unitring data export), and import into an empty store"
    )]
    Older {
        /// The layout of the store.
        found: u64,
        /// The layout that this program writes.
        known: u64,
    },
    /// Another process has the file open.
    #[error("store.path: {path}: in use by another process; a file serves one companion")]
    InUse { path: PathBuf },
    /// The file can't be used.
    #[error("store.path: {path}: {message}")]
    File { path: PathBuf, message: String },
    /// A file of certificates or keys can't be used.
    #[error(transparent)]
    Tls(FileError),
    /// The stored data are not in this program's format.
    #[error("corrupt data in the store: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same request may succeed later, unchanged.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Away(_)
                | Self::NotReplicated { .. }
                | Self::Removed
                | Self::OutboxFull { .. }
                | Self::OutboxBytesFull { .. }
                | Self::Disagrees { .. }
                | Self::TooMany { .. }
                | Self::Contended(_)
                | Self::ClockAhead(_)
        )
    }
}

impl From<InvalidMark> for StoreError {
    fn from(error: InvalidMark) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        Self::OutOfBounds(fault.to_string())
    }
}

impl From<ClockAhead> for StoreError {
    fn from(ClockAhead(ms): ClockAhead) -> Self {
        Self::ClockAhead(ms)
    }
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        Self::Tls(error)
    }
}
