//! How the program ends: one table for all commands, which docs/cli.md shows.

use std::process::ExitCode;

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command succeeded, and its subject is healthy.
    Success = 0,
    /// The command failed, or its output could not be written; or its subject (`status`, `group status`) is degraded,
    /// or `doctor` has findings.
    Failure = 1,
    /// No companion answers at that address: nothing does, or another server; `doctor` reached nothing at all.
    Unreachable = 2,
    /// `group create`: refused, and nothing was touched.
    Refused = 3,
    /// `data get`, `data delete`: there is no such record.
    Absent = 4,
    /// `data put`, `data delete`: the record is not in the version that the command requires.
    Conflict = 5,
    /// The configuration or the command line is wrong, and starting again does not help (`EX_USAGE`).
    Usage = 64,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Failure,
        Self::Unreachable,
        Self::Refused,
        Self::Absent,
        Self::Conflict,
        Self::Usage,
    ];

    pub fn number(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}
