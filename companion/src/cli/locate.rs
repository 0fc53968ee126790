//! `unitring locate`: the companion's answer in plain text.

use std::net::SocketAddr;

use serde_json::Value;

use super::Locate;
use crate::client::Target;
use crate::client::ask::{AskError, ask, escape, list, listed, number, services, text};

/// The instance of a key, and why it goes there.
///
/// # Errors
/// [`AskError`].
pub(crate) fn locate(asked: &Locate) -> Result<String, AskError> {
    let target = &asked.target;
    if let (Some(with), None) = (&asked.with, &asked.address)
        && with.parse::<SocketAddr>().is_err()
    {
        let error =
            format!("--with {with}: must be an ip:port, or --address must say where it would be");
        return Err(AskError::Usage(error));
    }
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
    let address = asked.address.map(|address| address.to_string());
    for (name, value) in [
        ("without", &asked.without),
        ("with", &asked.with),
        ("with_address", &address),
        ("with_weight", &weight),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    let answer = ask(target, &path)?;
    listed(target, &answer, "/candidates")?;
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
        let updates = candidate.get("update_load").and_then(Value::as_u64);
        let updates = updates.map_or(String::new(), |load| format!(" + {load} for updates"));
        let priority = candidate.get("priority").and_then(Value::as_u64);
        let priority = priority.map_or(String::new(), |at| format!(", priority {at}"));
        out.push_str(&format!(
            "candidate  {} ({}){priority}, in flight {}{updates}{capacity}\n",
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

/// The only service, or the only one of several that Envoys report on: keys of the others cannot be located.
fn only_service(target: &Target) -> Result<String, AskError> {
    let services = services(target, "")?;
    let name = |service| text(service, "/service");
    let has_reporters = |service: &&Value| !list(service, "/reporters").is_empty();
    let mut names: Vec<&str> = services.iter().filter(has_reporters).map(name).collect();
    if names.is_empty() {
        names = services.iter().map(name).collect();
    }
    match names.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(AskError::Refused(
            "the companion knows no service yet".to_owned(),
        )),
        several => Err(AskError::Which(several.join(", "))),
    }
}
