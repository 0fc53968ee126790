//! The process' limit of open files, which bounds its connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not connections of clients: the store, the brokers, the log, and some to spare.
const RESERVED: u64 = 256;
/// Most connections of clients, even if the system's limit is higher.
pub(crate) const CONNECTIONS_MAX: usize = 8_192;
/// Fewest connections, even if the limit is lower.
const CONNECTIONS_MIN: usize = 64;

/// Raises the soft limit to the hard one, and returns how many connections fit.
pub(crate) fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files could not be raised");
            limit.current
        }
    };
    let fit = in_force.map_or(u64::MAX, |files| files.saturating_sub(RESERVED));
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    if fit < CONNECTIONS_MAX {
        tracing::warn!(
            files = in_force,
            connections = fit.max(CONNECTIONS_MIN),
            "the limit of open files (ulimit -n) is low, and so is that of connections"
        );
    }
    fit.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}
