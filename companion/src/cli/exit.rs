//! How the program ends: one table for all commands, which docs/companion.md shows.

use std::process::ExitCode;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It is done; what was asked about is well.
    Success,
    /// It failed; or what was asked about (`status`, `group status`) is degraded.
    Failure,
    /// Nobody answers there, or nobody who speaks for a companion.
    Unreachable,
    /// `group create`: refused, and nothing was touched.
    Refused,
    /// `data get`, `data delete`: there is no such record.
    Absent,
    /// `data put`, `data delete`: something else is there than must be.
    Conflict,
    /// The configuration or the command line is wrong, and starting again does not help (`EX_USAGE`).
    Usage,
}

impl Exit {
    /// All of them, with what they mean to who reads the table.
    pub const ALL: [(Self, u8); 7] = [
        (Self::Success, 0),
        (Self::Failure, 1),
        (Self::Unreachable, 2),
        (Self::Refused, 3),
        (Self::Absent, 4),
        (Self::Conflict, 5),
        (Self::Usage, 64),
    ];

    /// The number.
    pub fn number(self) -> u8 {
        let found = Self::ALL.iter().find(|(exit, _)| *exit == self);
        found.map_or(1, |(_, number)| *number)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}
