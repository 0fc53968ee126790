//! Why a store could not do what was asked.

use std::path::PathBuf;

use crate::replica::bounds::Fault;
use crate::replica::{ClockAhead, InvalidMark};
use crate::tls::FileError;

/// Why a store could not do what was asked. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store can't be reached or is not ready. Whether a change was made is unknown.
    #[error("the store is away: {0}")]
    Away(String),
    /// A write was made, but not on as many replicas as it must be.
    #[error(
        "stored, but {has} of {wanted} replicas have it in time: it may be lost with the primary; write it \
         again"
    )]
    NotReplicated {
        /// How many have it.
        has: u64,
        /// How many must.
        wanted: u64,
    },
    /// Too many ops wait for the other units.
    #[error("the outbox is full: {waiting} ops wait for other units, outbox_max is {max}")]
    OutboxFull {
        /// How many.
        waiting: u64,
        /// How many may.
        max: u64,
    },
    /// They take too much.
    #[error(
        "the outbox is full: {bytes} bytes wait for other units, twice outbox_bytes_max is {max}"
    )]
    OutboxBytesFull {
        /// How much.
        bytes: u64,
        /// How much may.
        max: u64,
    },
    /// What companions of the unit must have alike differs.
    #[error(
        "this companion's configuration is not that of its unit: it has {ours}, the store says {theirs}. Set it \
         as there, or make it the unit's with `unitring unit agree`, and restart the others"
    )]
    Disagrees {
        /// What it has.
        ours: String,
        /// What the store says.
        theirs: String,
    },
    /// This unit is no member of its group any more.
    #[error(
        "this unit was removed from its group: nobody would get what is written here. Empty its store, and \
         have another unit add it"
    )]
    Removed,
    /// A bound on what is kept.
    #[error("{what}: at most {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// What is to be written is beyond a bound of all units.
    #[error("refused: {0}")]
    OutOfBounds(String),
    /// The bucket's clock is of the future.
    #[error(
        "the record's bucket was written by a clock that is {0} ms ahead of this one: no other unit would take \
         it. Set this machine's clock; if it is right, `unitring unit repair --clocks` leads back"
    )]
    ClockAhead(u64),
    /// Another process changed the same thing again and again.
    #[error("others kept changing {0} meanwhile")]
    Contended(&'static str),
    /// Written by a newer program.
    #[error("the store has layout {found}, newer than {known}: update unitring")]
    Newer {
        /// Its layout.
        found: u64,
        /// What this program knows.
        known: u64,
    },
    /// Written by an older program, whose layout this one does not read.
    #[error(
        "the store has layout {found}, this program writes {known}: export with the program that wrote it \
         (unitring data export), and import into an empty store"
    )]
    Older {
        /// Its layout.
        found: u64,
        /// What this program writes.
        known: u64,
    },
    /// Another process has the file.
    #[error("{path}: in use by another process; a file serves one companion")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be used.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// What is stored is not what this program writes.
    #[error("the store holds what no unitring wrote: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same request may work later, unchanged.
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
        let message = error.why();
        Self::File {
            path: error.path,
            message,
        }
    }
}
