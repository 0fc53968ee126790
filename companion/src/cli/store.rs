//! `store`: looks after the embedded store of a running companion.

use clap::Subcommand;

use crate::client::Target;
use crate::client::ask::{AskError, call, number};

/// What is done to the store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Return the space of deleted records to the file system. Meanwhile the companion answers nothing from its
    /// store; a file of 1 GB takes some seconds.
    Compact(Target),
}

/// Runs the command, and prints what it did.
///
/// # Errors
/// [`AskError`].
pub(crate) fn run(command: &StoreCommand) -> Result<String, AskError> {
    let StoreCommand::Compact(target) = command;
    let done = call(target, "POST", "/v1/compact", None)?;
    Ok(format!(
        "the file has {} bytes, and had {}\n",
        number(&done, "/after_bytes"),
        number(&done, "/before_bytes"),
    ))
}
