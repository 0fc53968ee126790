//! Standard output and standard error of commands.
//!
//! Invariant: output that cannot be written ends the program with 1, in silence if only its reader has ended
//! (`unitring … | head`), as SIGPIPE ends other programs. No stream that is closed or full makes the program panic. The
//! macros of the standard library do that, so that nothing else here may write.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("write to standard output: {0}")]
pub(crate) struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether its reader has ended, as `head` does.
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes bytes at once.
///
/// # Errors
/// [`OutputError`].
pub(crate) fn say(bytes: impl AsRef<[u8]>) -> Result<(), OutputError> {
    write(&mut io::stdout().lock(), bytes.as_ref())
}

/// Writes a line at once.
///
/// # Errors
/// [`OutputError`].
pub(crate) fn line(text: impl Display) -> Result<(), OutputError> {
    say(format!("{text}\n"))
}

/// Writes text with colours; they are left out where the output is no terminal.
///
/// # Errors
/// [`OutputError`].
pub(crate) fn say_in_colour(text: &str) -> Result<(), OutputError> {
    write(&mut anstream::stdout().lock(), text.as_bytes())
}

/// Writes a line to standard error, so that a script that counts the output does not count it.
pub(crate) fn aside(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Writes an error. If standard error is closed, the error is dropped.
pub(crate) fn complain(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "unitring: {text}"));
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<(), OutputError> {
    out.write_all(bytes)?;
    Ok(out.flush()?)
}
