//! Streams of a running companion that are followed for ever.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::thread::sleep;
use std::time::Duration;

use super::Target;
use super::ask::{AskError, Reader, body, open, refusal};

/// From the end of a stream to the next attempt.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Passes the data of each message to `show`, and connects again after a break, from where it was. Returns why it
/// cannot go on: the companion refused, or nobody reads what is shown.
pub(super) fn follow(
    target: &Target,
    path: &str,
    after: Option<String>,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> anyhow::Error {
    let mut last = after;
    loop {
        match stream(target, path, &mut last, &mut show) {
            Ok(()) => {}
            Err(Broken::Refused(error)) => return error,
            Err(Broken::Away(error)) => eprintln!("unitring: {error:#}: trying again"),
        }
        sleep(RECONNECT_AFTER);
    }
}

/// Prints a line at once.
pub(super) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

enum Broken {
    /// Trying again does not help.
    Refused(anyhow::Error),
    Away(anyhow::Error),
}

/// One connection, to its end.
fn stream(
    target: &Target,
    path: &str,
    last: &mut Option<String>,
    show: &mut impl FnMut(&str) -> io::Result<()>,
) -> Result<(), Broken> {
    let id = last.clone().map(|id| ("last-event-id", id));
    let away = |error: AskError| Broken::Away(error.into());
    let mut response = open(target, path, id.as_slice()).map_err(away)?;
    let status = response.status().as_u16();
    if status != 200 {
        let answer = body(path, &mut response).unwrap_or_default();
        let error = AskError::Refused(refusal(path, status, &answer));
        return Err(match status {
            503 => away(error),
            _ => Broken::Refused(error.into()),
        });
    }
    let mut id: Option<String> = None;
    let lines: Reader = response.into_body().into_reader();
    for line in BufReader::new(lines).lines() {
        let line = line.map_err(|error| Broken::Away(error.into()))?;
        match line.split_once(": ").or_else(|| line.split_once(':')) {
            Some(("data", data)) => show(data).map_err(|error| Broken::Refused(error.into()))?,
            Some(("id", said)) => id = Some(said.to_owned()),
            // The end of a message: what was shown need not come again.
            None if line.is_empty() => *last = id.take().or(last.take()),
            _ => {}
        }
    }
    Ok(())
}
