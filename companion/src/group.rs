//! The unit group in Redis: which servers hold a unit's data, and how they get and keep their
//! setup.
//!
//! It has four steps, each verified on the servers themselves: the data structure (layout), the
//! persistence, the replication, the fixed data. [`plan`] decides, pure: observed and wanted state
//! → the actions, or why none is allowed. It makes the steps idempotent: a group is complete when a
//! new plan is empty.

pub(crate) mod create;
pub(crate) mod plan;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod watch;

/// Why a group could not be created or observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    /// A server did not answer, or refused a command.
    #[error("{server}: {why}")]
    Server { server: String, why: String },
    /// A server must not be touched.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<plan::Refusal>),
    /// The file of the fixed data is wrong.
    #[error("group.fixed_data: {0}")]
    FixedData(#[from] crate::fixed::FixedDataError),
    /// All actions were performed, and yet the servers are not as wanted.
    #[error("not all is done after {seconds} s; still to do:\n{left}")]
    Unfinished {
        /// How long the command waited.
        seconds: u64,
        /// The actions left, a line each.
        left: String,
    },
}
