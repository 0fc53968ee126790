//! `locate` and `status`: questions to a running companion, and their answers in plain text.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize as _;
use serde_json::Value;
use unitring_protocol::report::Finding;
use ureq::Body;
use ureq::http::{Request, Response};

use super::{Locate, Target};
use crate::loads::wiring;

/// From which on it is told that the clock of the store is not ours.
const CLOCK_APART_MS: u64 = 1_000;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answered, or not with JSON.
    #[error("{url}: {source}")]
    Unanswered {
        /// What was asked.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The companion refused.
    #[error("{0}")]
    Refused(String),
    /// The companion knows several services.
    #[error("--service is needed: the companion knows {0}")]
    Which(String),
}

impl AskError {
    /// No answer from this path, or not to its end.
    pub(super) fn unanswered(url: &str, source: ureq::Error) -> Self {
        Self::Unanswered {
            url: url.to_owned(),
            source: Box::new(source),
        }
    }
}

/// The body of an answer that may never end.
pub(super) type Reader = ureq::BodyReader<'static>;

/// Asks one path.
pub(super) fn ask(target: &Target, path: &str) -> Result<Value, AskError> {
    call(target, "GET", path, None)
}

/// Any call with JSON in and out; an answer without a body is null.
pub(super) fn call(
    target: &Target,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, AskError> {
    let body = body.map_or(String::new(), Value::to_string);
    let mut response = send(target, method, path, &[], body.as_bytes())?;
    let status = response.status();
    let text = response.body_mut().read_to_string();
    let text = text.map_err(|source| AskError::unanswered(path, source))?;
    // That it is not ready is an answer, too.
    if !status.is_success() && path != "/readyz" {
        let refused = refusal(path, status.as_u16(), text.as_bytes());
        return Err(AskError::Refused(refused));
    }
    Ok(
        serde_json::from_str(&text).unwrap_or(match text.is_empty() {
            true => Value::Null,
            false => Value::String(text),
        }),
    )
}

/// One request, whatever comes back.
pub(super) fn send(
    target: &Target,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> Result<Response<Body>, AskError> {
    request(target, (method, path), headers, body, Some(TIMEOUT))
}

/// The whole body of an answer.
pub(super) fn body(path: &str, response: &mut Response<Body>) -> Result<Vec<u8>, AskError> {
    let read = response.body_mut().read_to_vec();
    read.map_err(|source| AskError::unanswered(path, source))
}

/// A stream that goes on for as long as it likes.
pub(super) fn open(
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
    let url = format!("{}{path}", target.url.trim_end_matches('/'));
    let agent = ureq::Agent::config_builder()
        .timeout_global(timeout)
        .timeout_connect(Some(TIMEOUT))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let mut request = Request::builder().method(method).uri(&url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if let Some(token) = &target.token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let sent = request.body(body).map_err(ureq::Error::from);
    let sent = sent.and_then(|request| agent.run(request));
    sent.map_err(|source| AskError::unanswered(&url, source))
}

/// Why the companion refused, in its own words if it said some.
pub(super) fn refusal(path: &str, status: u16, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    match body.get("error").and_then(Value::as_str) {
        Some(error) => error.to_owned(),
        None => format!("{path}: status {status}"),
    }
}

/// A name as a part of a path or query.
pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("?")
}

pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Where a key goes, and why.
///
/// # Errors
/// [`AskError`].
pub fn locate(asked: &Locate) -> Result<String, AskError> {
    let target = &asked.target;
    let service = match &asked.service {
        Some(service) => service.clone(),
        None => only_service(target)?,
    };
    let mut path = format!(
        "/v1/services/{}/locate?key={}",
        escape(&service),
        escape(&asked.key)
    );
    let weight = asked.weight.map(|weight| weight.to_string());
    for (name, value) in [
        ("without", &asked.without),
        ("with", &asked.with),
        ("with_address", &asked.address),
        ("with_weight", &weight),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    let answer = ask(target, &path)?;
    if asked.json {
        return Ok(format!("{answer:#}\n"));
    }
    Ok(located(&answer))
}

/// The answer in plain text.
fn located(answer: &Value) -> String {
    let owner = match answer.get("owner").filter(|owner| !owner.is_null()) {
        Some(owner) => format!("{} ({})", text(owner, "/id"), text(owner, "/address")),
        None => "none that the filter knows".to_owned(),
    };
    let because = answer.get("because").and_then(Value::as_str);
    let because = because.map_or(String::new(), |because| {
        format!(": {because}, so Envoy's own policy chooses")
    });
    let other = if answer.get("as_reported") == Some(&Value::Bool(false)) {
        ", not quite the one that the filter has"
    } else {
        ""
    };
    let mut out = format!(
        "key        {}\nhash       {}\nowner      {owner}\nreason     {}{because}\nring       {} ({} virtual nodes){other}\n",
        text(answer, "/key"),
        text(answer, "/hash"),
        text(answer, "/reason"),
        text(answer, "/ring/version"),
        number(answer, "/ring/points"),
    );
    for candidate in list(answer, "/candidates") {
        let capacity = candidate.get("capacity").and_then(Value::as_u64);
        let capacity = capacity.map_or(String::new(), |capacity| format!(" of {capacity}"));
        let priority = candidate.get("priority").and_then(Value::as_u64);
        let priority = priority.map_or(String::new(), |at| format!(", priority {at}"));
        out.push_str(&format!(
            "candidate  {} ({}){priority}, in flight {}{capacity}\n",
            text(candidate, "/id"),
            text(candidate, "/address"),
            number(candidate, "/in_flight")
        ));
    }
    if let Some(change) = answer.get("change") {
        let moved = change.get("moved").and_then(Value::as_f64).unwrap_or(0.0);
        let owner = change
            .get("owner")
            .and_then(Value::as_str)
            .unwrap_or("nobody");
        out.push_str(&format!(
            "change     {:.2} % of all keys would move; this one would be with {owner}\n",
            moved * 100.0
        ));
    }
    out
}

fn only_service(target: &Target) -> Result<String, AskError> {
    let services = ask(target, "/v1/services")?;
    let names: Vec<&str> = list(&services, "/services")
        .iter()
        .map(|service| text(service, "/service"))
        .collect();
    match names.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(AskError::Refused(
            "the companion knows no service yet".to_owned(),
        )),
        several => Err(AskError::Which(several.join(", "))),
    }
}

fn condition(instance: &Value) -> &'static str {
    let is = |name: &str, value: bool| instance.get(name) == Some(&Value::Bool(value));
    if is("draining", true) {
        ", draining"
    } else if is("healthy", false) {
        ", unhealthy"
    } else {
        ""
    }
}

/// What the filters found wrong in their wiring, a line each.
fn miswired(services: &Value) -> String {
    let services = list(services, "/services").iter();
    let reporters = services.flat_map(|service| list(service, "/reporters"));
    let lines = reporters.flat_map(|reporter| {
        let line = |finding: &Value| {
            let finding = Finding::deserialize(finding).ok()?;
            Some(wiring::line(text(reporter, "/reporter"), &finding) + "\n")
        };
        list(reporter, "/wiring").iter().filter_map(line)
    });
    lines.collect()
}

/// How a companion and its unit group are.
///
/// # Errors
/// [`AskError`].
pub fn status(target: &Target, json: bool) -> Result<String, AskError> {
    let ready = ask(target, "/readyz")?;
    // A store that is away is a status, not a failure to tell it.
    let or_error = |answer: Result<Value, AskError>| match answer {
        Err(AskError::Refused(error)) => Ok(serde_json::json!({ "error": error })),
        answer => answer,
    };
    let units = or_error(ask(target, "/v1/units"))?;
    let services = or_error(ask(target, "/v1/services"))?;
    if json {
        let services = services.get("services").cloned().unwrap_or(services);
        let all = serde_json::json!({ "ready": ready, "units": units, "services": services });
        return Ok(format!("{all:#}\n"));
    }
    let mut out = miswired(&services);
    out += &format!(
        "unit       {}\nstore      {}\nlink       {}\n",
        text(&units, "/unit"),
        text(&ready, "/checks/store"),
        text(&ready, "/checks/link"),
    );
    if let Some(group) = ready.pointer("/checks/group").and_then(Value::as_str) {
        out.push_str(&format!("group      {group}\n"));
    }
    if let Some(sync) = units.get("sync").filter(|sync| !sync.is_null()) {
        let (waiting, max) = (number(sync, "/outbox"), number(sync, "/outbox_max"));
        out.push_str(&format!(
            "inbox      {}\noutbox     {waiting} of at most {max} ops wait\n",
            text(sync, "/inbox")
        ));
        let ahead_ms = units
            .pointer("/store_clock_ahead_ms")
            .and_then(Value::as_i64);
        if let Some(ahead_ms) = ahead_ms.filter(|ms| ms.unsigned_abs() >= CLOCK_APART_MS) {
            out.push_str(&format!(
                "clock      that of the store is {ahead_ms} ms ahead: values expire by it\n"
            ));
        }
        let links = sync.get("links").and_then(Value::as_object);
        for (unit, link) in links.into_iter().flatten() {
            out.push_str(&format!("unit       {}", super::unit::line(unit, link)));
        }
        let repaired = number(sync, "/repaired_records");
        out.push_str(&format!("repaired   {repaired} records since the start\n"));
    }
    for service in list(&services, "/services") {
        out.push_str(&format!(
            "service    {}: {} registered, {} reporters\n",
            text(service, "/service"),
            list(service, "/registry").len(),
            list(service, "/reporters").len()
        ));
        for instance in list(service, "/instances") {
            out.push_str(&format!(
                "instance   {} calls {}, failures {}, in flight {}, updates {}{}\n",
                text(instance, "/id"),
                number(instance, "/calls"),
                number(instance, "/failures"),
                number(instance, "/in_flight"),
                number(instance, "/updates"),
                condition(instance),
            ));
        }
    }
    Ok(out)
}
