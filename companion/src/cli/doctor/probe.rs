//! Sends a request for each key through the listener, and asks the companion where that key belongs.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use unitring_balancer::settings::{KeyFrom, KeySource};
use ureq::Agent;
use ureq::http::Request;

use super::DoctorFlags;
use super::fetch::why;
use crate::client::Target;
use crate::client::ask::{AskError, agent, ask, escape, services, text};
use crate::client::url::without_login;
use crate::doctor::{Answered, Known, Located, Probe};

/// How long the answer to a probe may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After this many probes without an answer, no more are sent.
const UNANSWERED_MAX: usize = 3;
/// The headers by which the filter tells the instance and its reason.
const INSTANCE: &str = "x-unitring-instance";
const REASON: &str = "x-unitring-reason";

/// Sends probes to Envoy, and asks the companion about their keys.
struct Prober<'a> {
    agent: Agent,
    url: &'a str,
    key: KeyFrom,
    instance_header: &'a str,
    companion: Target,
    service: String,
}

/// A probe for each key; fewer if Envoy does not answer.
pub(super) fn all(
    flags: &DoctorFlags,
    url: &str,
    companion: &str,
    known: &[Known],
) -> Result<Vec<Probe>, AskError> {
    let companion = flags.target(companion, flags.token.as_deref());
    let service = service(flags, &companion, known)?;
    let key = key(flags, known.iter().find(|known| known.service == service))?;
    let prober = Prober {
        agent: agent(&flags.target(url, None), Some(TIMEOUT))?,
        url,
        key,
        instance_header: flags.instance_header.as_deref().unwrap_or(INSTANCE),
        companion,
        service,
    };
    let (mut probes, mut unanswered) = (Vec::new(), 0);
    for number in 0..flags.probes {
        let key = format!("doctor-{number}");
        let mut probe = prober.probe(&key);
        if probe.is_elsewhere() {
            // An instance may have come or gone between the request and the question.
            probe = prober.probe(&key);
        }
        unanswered += usize::from(probe.answer.is_err());
        probes.push(probe);
        if unanswered >= UNANSWERED_MAX {
            break;
        }
    }
    Ok(probes)
}

/// The service that is asked about; nothing known or several need `--service`.
fn service(flags: &DoctorFlags, companion: &Target, known: &[Known]) -> Result<String, AskError> {
    if let Some(service) = &flags.service {
        return Ok(service.clone());
    }
    let several = |names: Vec<String>| {
        let error = format!(
            "--service is needed with --probe: there are {}",
            names.join(", ")
        );
        AskError::Usage(error)
    };
    let names: Vec<String> = known.iter().map(|known| known.service.clone()).collect();
    match names.as_slice() {
        [one] => return Ok(one.clone()),
        [] => {}
        _ => return Err(several(names)),
    }
    let told = services(companion, "").unwrap_or_default();
    let names: Vec<String> = told
        .iter()
        .map(|one| text(one, "/service").to_owned())
        .collect();
    match names.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(AskError::Usage(
            "--service is needed with --probe: the companion knows no service yet".to_owned(),
        )),
        _ => Err(several(names)),
    }
}

/// Where a probe has its key: the first source of the filter's key, if that alone decides.
fn key(flags: &DoctorFlags, known: Option<&Known>) -> Result<KeyFrom, AskError> {
    if let Some(header) = &flags.key_header {
        return Ok(KeyFrom::Header(header.to_ascii_lowercase()));
    }
    let needed = |why: &str| {
        Err(AskError::Usage(format!(
            "--key-header is needed with --probe: {why}"
        )))
    };
    let Some(known) = known else {
        return needed("no --envoy-config and no --admin tells the filter's key");
    };
    let Some((first, rest)) = known.key.split_first() else {
        return needed("the native module has the key of the route");
    };
    let is_always_there = |source: &KeySource| match &source.from {
        KeyFrom::SourceIp => true,
        KeyFrom::Header(name) => name.starts_with(':'),
        _ => false,
    };
    if is_always_there(first) || (!first.terminal && rest.iter().any(is_always_there)) {
        return needed(
            "the client's address or the path is part of the filter's key, so that a value alone is none",
        );
    }
    Ok(first.from.clone())
}

impl Prober<'_> {
    fn probe(&self, key: &str) -> Probe {
        Probe {
            key: key.to_owned(),
            answer: self.send(key),
            located: self.locate(key),
        }
    }

    fn send(&self, key: &str) -> Result<Answered, String> {
        let mut url = self.url.to_owned();
        let mut request = Request::builder();
        match &self.key {
            KeyFrom::Header(name) => request = request.header(name, key),
            KeyFrom::Cookie(name) => request = request.header("cookie", format!("{name}={key}")),
            KeyFrom::Query(name) => {
                let join = if url.contains('?') { '&' } else { '?' };
                let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
                url.push_str(&format!("{join}{name}={key}"));
            }
            KeyFrom::SourceIp => {}
        }
        let request = request.uri(url).body(());
        let request = request.map_err(|error| format!("{}: {error}", without_login(self.url)))?;
        let answer = self.agent.run(request).map_err(|error| why(&error))?;
        let header = |name: &str| {
            let value = answer.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned()).filter(|value| !value.is_empty())
        };
        Ok(Answered {
            status: answer.status().as_u16(),
            instance: header(self.instance_header),
            reason: header(REASON),
        })
    }

    fn locate(&self, key: &str) -> Result<Located, String> {
        let path = format!(
            "/v1/services/{}/locate?key={}",
            escape(&self.service),
            escape(key)
        );
        let answer = ask(&self.companion, &path).map_err(|error| {
            let url = &self.companion.url;
            error.to_string().replace(url, &without_login(url))
        })?;
        let named = |place: &str| {
            let place = answer.pointer(place).filter(|place| !place.is_null())?;
            let part = |field| place.get(field).and_then(Value::as_str).map(str::to_owned);
            Some([part("id")?, part("address")?])
        };
        Ok(Located {
            owner: named("/owner"),
            first: named("/candidates/0"),
        })
    }
}
