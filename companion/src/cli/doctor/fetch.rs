//! The bytes of a file or of an answer, bounded.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use ureq::http::Request;

use crate::client::Target;
use crate::client::ask::{AskError, TIMEOUT, agent};
use crate::files;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The largest answer of the admin interface: a thousand clusters have some ten megabytes.
const DUMP_BYTES_MAX: u64 = 256 << 20;

/// The text of a file of the command line.
pub(super) fn read(path: &Path) -> Result<String, AskError> {
    let wrong = |why: String| AskError::Usage(format!("--envoy-config {}: {why}", path.display()));
    let file = File::open(path).map_err(|error| wrong(files::why(&error)))?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(FILE_BYTES_MAX + 1);
    let read = bounded.read_to_end(&mut bytes);
    read.map_err(|error| wrong(files::why(&error)))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(wrong(format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    // Bytes that are no text are no YAML: the parser reports that.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Status and body, or why there is no answer.
pub(super) type Got = Result<(u16, Vec<u8>), String>;

/// Asks Envoy's admin interface.
pub(super) fn get(target: &Target, path: &str) -> Result<Got, AskError> {
    let agent = agent(target, Some(TIMEOUT))?;
    let request = Request::get(format!("{}{path}", target.url)).body(());
    let answer = request
        .map_err(ureq::Error::from)
        .and_then(|request| agent.run(request));
    let body = answer.and_then(|mut answer| {
        let body = answer
            .body_mut()
            .with_config()
            .limit(DUMP_BYTES_MAX)
            .read_to_vec()?;
        Ok((answer.status().as_u16(), body))
    });
    Ok(body.map_err(|error| format!("GET {path}: {}", why(&error))))
}

/// What went wrong, in a few words.
pub(super) fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            "connection refused".to_owned()
        }
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::Timeout(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}
