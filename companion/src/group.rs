//! The unit group in Redis: which servers hold a unit's data, and how they are brought to it and kept.
//!
//! Four steps, each verified on the servers themselves: the data structure (layout), the persistence,
//! the replication, the fixed data. [`plan`] decides, pure: what was observed and what is wanted → what is to
//! be done, or why nothing may be. It makes the steps idempotent: a group is created when planning
//! again finds nothing to do.

pub mod create;
pub mod plan;
pub mod server;
pub mod status;
pub mod watch;

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
    #[error("group.fixed_data {0}")]
    FixedData(#[from] crate::fixed::FixedDataError),
    /// All was done, and yet the servers are not as they shall be.
    #[error("not all is done after {seconds} s; still to do:\n{left}")]
    Unfinished {
        /// How long was waited.
        seconds: u64,
        /// What is left, a line each.
        left: String,
    },
}
