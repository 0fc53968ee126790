//! What commands write to standard output, and what they complain of.
//!
//! Invariant: a reader that is gone (`unitring … | head`) is no failure, and no stream that is closed or full makes the
//! program panic. The macros of the standard library do that, so that nothing else here may write.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("write to standard output: {0}")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether its reader has ended, as `head` does.
    pub fn is_reader_gone(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes bytes at once.
///
/// # Errors
/// [`OutputError`].
pub fn say(bytes: impl AsRef<[u8]>) -> Result<(), OutputError> {
    write(&mut io::stdout().lock(), bytes.as_ref())
}

/// Writes a line at once.
///
/// # Errors
/// [`OutputError`].
pub fn line(text: impl Display) -> Result<(), OutputError> {
    say(format!("{text}\n"))
}

/// Writes text with colours, which are left out where nobody sees them. The exit code of the command tells enough, so
/// that a reader who is gone is no error.
///
/// # Errors
/// [`OutputError`].
pub fn say_in_colour(text: &str) -> Result<(), OutputError> {
    match write(&mut anstream::stdout().lock(), text.as_bytes()) {
        Err(error) if error.is_reader_gone() => Ok(()),
        written => written,
    }
}

/// Writes a line beside the output, which somebody may count.
pub fn aside(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Writes an error; where standard error is gone, nobody wants it.
pub fn complain(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "unitring: {text}"));
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<(), OutputError> {
    out.write_all(bytes)?;
    Ok(out.flush()?)
}
