//! Follows streams of a running companion, for ever.

use std::io::{BufRead as _, BufReader};
use std::thread::sleep;
use std::time::Duration;

use super::failure::told;
use crate::client::Target;
use crate::client::ask::{AskError, Reader, body, open, refusal};
use crate::output::{OutputError, complain};

/// From the end of a stream to the next attempt.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Passes the data of each message to `show`, and reconnects after a break, from where it was. Returns why it
/// cannot go on: the companion refused, or the reader of the output is gone.
pub(super) fn follow(
    target: &Target,
    path: &str,
    after: Option<String>,
    mut show: impl FnMut(&str) -> Result<(), OutputError>,
) -> anyhow::Error {
    let mut last = after;
    loop {
        match stream(target, path, &mut last, &mut show) {
            Ok(()) => {}
            Err(Broken::Refused(error)) => return error,
            Err(Broken::Away(error)) => complain(format_args!("{}: trying again", told(&error))),
        }
        sleep(RECONNECT_AFTER);
    }
}

enum Broken {
    /// Trying again does not help.
    Refused(anyhow::Error),
    Away(anyhow::Error),
}

/// The meaning of a refusal.
fn refused(status: u16, why: String, id: Option<(&str, String)>) -> Broken {
    match (status, id) {
        (503, _) => Broken::Away(AskError::Refused(why).into()),
        (400, Some((header, id))) if why.starts_with(header) => {
            let error =
                format!("--after {id}: must be the id of an event, as an earlier stream sent it");
            Broken::Refused(AskError::Usage(error).into())
        }
        _ => Broken::Refused(AskError::Refused(why).into()),
    }
}

/// One connection, to its end.
fn stream(
    target: &Target,
    path: &str,
    last: &mut Option<String>,
    show: &mut impl FnMut(&str) -> Result<(), OutputError>,
) -> Result<(), Broken> {
    let id = last.clone().map(|id| ("last-event-id", id));
    let away = |error: AskError| Broken::Away(error.into());
    let opened = open(target, path, id.as_slice());
    let mut response = opened.map_err(|error| match error {
        // The command line will be as wrong the next time.
        error @ (AskError::Usage(_) | AskError::NoCompanion(_)) => Broken::Refused(error.into()),
        error => away(error),
    })?;
    let status = response.status().as_u16();
    if status != 200 {
        let answer = body(path, &mut response).unwrap_or_default();
        return Err(refused(status, refusal(path, status, &answer), id));
    }
    let mut id: Option<String> = None;
    let lines: Reader = response.into_body().into_reader();
    for line in BufReader::new(lines).lines() {
        let line = line.map_err(|error| Broken::Away(error.into()))?;
        match line.split_once(": ").or_else(|| line.split_once(':')) {
            Some(("data", data)) => show(data).map_err(|error| Broken::Refused(error.into()))?,
            Some(("id", said)) => id = Some(said.to_owned()),
            // The end of a message: after a reconnect, messages that were shown need not come again.
            None if line.is_empty() => *last = id.take().or(last.take()),
            _ => {}
        }
    }
    Ok(())
}
