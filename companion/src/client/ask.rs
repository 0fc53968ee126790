//! Questions to a running companion.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::Body;
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::exit::Exit;
use super::readiness::{READY, is_companion};
use super::url::base;
use super::{Certificates, Target};
use crate::config::TlsFiles;
use crate::files;
use crate::tls::{self, FileError};

/// The flags of [`Certificates`].
const CERTIFICATE_FLAGS: [&str; 3] = ["--ca", "--cert", "--key-file"];

/// How long an answer may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The server gave no answer, or only a part of one.
    #[error("{url}: {why}")]
    Unanswered {
        /// The URL of the request.
        url: String,
        /// Why, in words.
        why: String,
    },
    /// The server that answers is no companion.
    #[error(
        "{0} answers, but is no companion of unitring: --url names the address of its HTTP (listen)"
    )]
    NoCompanion(String),
    /// The companion refused.
    #[error("{0}")]
    Refused(String),
    /// The command line breaks a rule that only its command knows.
    #[error("{0}")]
    Usage(String),
    /// The companion knows several services.
    #[error("--service is needed: the companion knows {0}")]
    Which(String),
}

impl AskError {
    /// No answer from this URL or path, or not to its end.
    pub(crate) fn unanswered(url: &str, error: &ureq::Error) -> Self {
        Self::Unanswered {
            url: url.to_owned(),
            why: words(error),
        }
    }

    /// The file of `--file` cannot be read.
    pub(crate) fn of_file(path: &Path, error: &std::io::Error) -> Self {
        let path = path.display();
        Self::Usage(format!("--file {path}: {}", files::why(error)))
    }

    /// How the program ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unanswered { .. } | Self::NoCompanion(_) => Exit::Unreachable,
            Self::Refused(_) => Exit::Failure,
            Self::Usage(_) | Self::Which(_) => Exit::Usage,
        }
    }
}

/// The error in words, once, with the way out.
fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            "connection refused: does `unitring serve` run, and is this its address (listen)?"
                .to_owned()
        }
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::Timeout(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Protocol(_) => format!("no HTTP is spoken there: {error}"),
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// The body of an answer that may never end.
pub(crate) type Reader = ureq::BodyReader<'static>;

/// Asks one path.
pub(crate) fn ask(target: &Target, path: &str) -> Result<Value, AskError> {
    call(target, "GET", path, None)
}

/// All services, page by page. `query` has further parameters, such as `shares=true`.
pub(crate) fn services(target: &Target, query: &str) -> Result<Vec<Value>, AskError> {
    let (mut all, mut from) = (Vec::new(), String::new());
    loop {
        let page = ask(target, &format!("/v1/services?{query}{from}"))?;
        all.extend_from_slice(listed(target, &page, "/services")?);
        match page.get("after").and_then(Value::as_str) {
            Some(after) => from = format!("&after={}", escape(after)),
            None => return Ok(all),
        }
    }
}

/// Any call with JSON in and out; an answer without a body is null.
pub(crate) fn call(
    target: &Target,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, AskError> {
    let body = body.map_or(String::new(), Value::to_string);
    let mut response = send(target, method, path, &[], body.as_bytes())?;
    let status = response.status();
    let text = response.body_mut().read_to_string();
    let text = text.map_err(|error| AskError::unanswered(path, &error))?;
    // An answer of 503 still lists the parts that are not ready.
    let is_answer = status.is_success() || path == READY && status.as_u16() == 503;
    if !is_answer {
        return Err(refused(target, path, status.as_u16(), text.as_bytes()));
    }
    Ok(
        serde_json::from_str(&text).unwrap_or(match text.is_empty() {
            true => Value::Null,
            false => Value::String(text),
        }),
    )
}

/// Sends one request, and returns any answer.
pub(crate) fn send(
    target: &Target,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> Result<Response<Body>, AskError> {
    request(target, (method, path), headers, body, Some(TIMEOUT))
}

/// The whole body of an answer.
pub(crate) fn body(path: &str, response: &mut Response<Body>) -> Result<Vec<u8>, AskError> {
    let read = response.body_mut().read_to_vec();
    read.map_err(|error| AskError::unanswered(path, &error))
}

/// Opens a stream without an end.
pub(crate) fn open(
    target: &Target,
    path: &str,
    headers: &[(&str, String)],
) -> Result<Response<Body>, AskError> {
    request(target, ("GET", path), headers, &[], None)
}

fn request(
    target: &Target,
    (method, path): (&str, &str),
    headers: &[(&str, String)],
    body: &[u8],
    timeout: Option<Duration>,
) -> Result<Response<Body>, AskError> {
    let url = format!("{}{path}", base("--url", &target.url)?);
    if path != READY {
        is_companion(target)?;
    }
    let agent = agent(target, timeout)?;
    let mut request = Request::builder().method(method).uri(&url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if let Some(token) = &target.token {
        // The value is a secret.
        if !token.chars().all(|letter| letter.is_ascii_graphic()) {
            let error = "--token or UNITRING_TOKEN: must have visible ASCII characters only";
            return Err(AskError::Usage(error.to_owned()));
        }
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let sent = request.body(body).map_err(ureq::Error::from);
    let sent = sent.and_then(|request| agent.run(request));
    sent.map_err(|error| AskError::unanswered(&url, &error))
}

/// An HTTP client with the certificates that the command line names. It follows no redirect.
pub(crate) fn agent(target: &Target, timeout: Option<Duration>) -> Result<ureq::Agent, AskError> {
    let config = ureq::Agent::config_builder()
        .tls_config(tls(target)?)
        .timeout_global(timeout)
        .timeout_connect(Some(TIMEOUT))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false);
    Ok(config.build().new_agent())
}

/// The roots and the certificate that the command line names.
fn tls(target: &Target) -> Result<TlsConfig, AskError> {
    let Certificates { ca, cert, key_file } = &target.certificates;
    let files = TlsFiles {
        settings: CERTIFICATE_FLAGS,
        ca: ca.clone(),
        identity: cert.clone().zip(key_file.clone()),
    };
    let wrong = |error: FileError| AskError::Usage(error.to_string());
    tls::check(&files).map_err(wrong)?;
    let [ca_flag, cert_flag, key_flag] = CERTIFICATE_FLAGS;
    let certificates = |flag, path: &Path| -> Result<Vec<Certificate<'static>>, AskError> {
        let chain = tls::chain(flag, path).map_err(wrong)?;
        let chain = chain
            .iter()
            .map(|one| Certificate::from_der(one).to_owned());
        Ok(chain.collect())
    };
    let roots = match &files.ca {
        Some(path) => RootCerts::new_with_certs(&certificates(ca_flag, path)?),
        None => RootCerts::WebPki,
    };
    let own = match &files.identity {
        Some((cert, key)) => {
            let chain = certificates(cert_flag, cert)?;
            let text = tls::read(key_flag, key).map_err(wrong)?;
            let read = PrivateKey::from_pem(&text);
            let key = read.map_err(|error| wrong(FileError::new(key_flag, key, error)))?;
            Some(ClientCert::new_with_certs(&chain, key))
        }
        None => None,
    };
    let tls = TlsConfig::builder().root_certs(roots).client_cert(own);
    Ok(tls.build())
}

/// Why the companion refused, in its own words if it sent some.
pub(crate) fn refusal(path: &str, status: u16, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let way_out = match status {
        401 => ": --token or UNITRING_TOKEN gives it",
        _ => "",
    };
    match body.get("error").and_then(Value::as_str) {
        Some(error) => format!("{error}{way_out}"),
        None => format!("{path}: status {status}{way_out}"),
    }
}

/// An answer that is no success, as an error: every companion says why in JSON, and other servers do not.
pub(crate) fn refused(target: &Target, path: &str, status: u16, body: &[u8]) -> AskError {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    match answer.get("error").is_some_and(Value::is_string) {
        true => AskError::Refused(refusal(path, status, body)),
        false => AskError::NoCompanion(target.url.clone()),
    }
}

/// The list at this place, which every companion's answer has.
pub(crate) fn listed<'a>(
    target: &Target,
    answer: &'a Value,
    pointer: &str,
) -> Result<&'a [Value], AskError> {
    let list = answer.pointer(pointer).and_then(Value::as_array);
    let none = || AskError::NoCompanion(target.url.clone());
    list.map(Vec::as_slice).ok_or_else(none)
}

/// A name as a part of a path or query.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("?")
}

pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// `1 instance`, `2 instances`.
pub(crate) fn count(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
