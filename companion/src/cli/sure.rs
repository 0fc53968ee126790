//! A command that cannot be undone asks for confirmation, if it runs on a terminal.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;

use crate::client::ask::AskError;

/// Whether to ask.
#[derive(Debug, Args)]
pub(crate) struct Sure {
    /// Do not ask for confirmation. Where standard input is no terminal, no command asks.
    #[arg(long)]
    pub yes: bool,
}

impl Sure {
    /// Goes on if this is wanted.
    ///
    /// # Errors
    /// [`AskError::Refused`] if not.
    pub(super) fn ask(&self, what: &str) -> Result<(), AskError> {
        if self.yes || !std::io::stdin().is_terminal() {
            return Ok(());
        }
        let refused = || AskError::Refused("nothing was done".to_owned());
        let mut answer = String::new();
        write!(std::io::stderr(), "{what}? [y/N] ").map_err(|_| refused())?;
        let read = std::io::stdin().read_line(&mut answer);
        let is_yes = ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str());
        match read {
            Ok(_) if is_yes => Ok(()),
            _ => Err(refused()),
        }
    }
}
