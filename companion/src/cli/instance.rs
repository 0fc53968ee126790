//! `instance`: the registry by hand.

use serde_json::{Value, json};

use super::{InstanceCommand, OneInstance, Target};
use crate::client::ask::{AskError, body, call, escape, listed, number, refused, send, text};

/// Runs the command, and prints what it did.
///
/// # Errors
/// [`AskError`].
pub(crate) fn run(command: &InstanceCommand) -> Result<String, AskError> {
    match command {
        InstanceCommand::List {
            service,
            json,
            target,
        } => {
            let registry = registry(target, service)?;
            Ok(if *json {
                format!("{:#}\n", Value::from(registry))
            } else if registry.is_empty() {
                format!("no instance is registered for {service}\n")
            } else {
                registry.iter().map(line).collect()
            })
        }
        InstanceCommand::Add {
            one,
            address,
            weight,
            ttl,
        } => {
            let body = json!({"address": address, "weight": weight, "ttl": ttl});
            let added = call(&one.target, "PUT", &path(one), Some(&body));
            Ok(line(&added.map_err(|error| match error {
                // Without an address, the id is taken for one.
                AskError::Refused(why) if address.is_none() && why.starts_with("address: ") => {
                    AskError::Usage(format!(
                        "--address is needed: --id {} is no ip:port",
                        one.id
                    ))
                }
                error => error,
            })?))
        }
        InstanceCommand::Drain(one) => drain(one, true),
        InstanceCommand::Undrain(one) => drain(one, false),
        InstanceCommand::Remove { one, sure } => {
            let (id, service) = (&one.id, &one.service);
            sure.ask(&format!("remove instance {id} of {service}"))?;
            call(&one.target, "DELETE", &path(one), None)?;
            Ok(format!("{} is removed from {}\n", one.id, one.service))
        }
    }
}

/// The registered instances of a service. One that the companion does not know has none.
fn registry(target: &Target, service: &str) -> Result<Vec<Value>, AskError> {
    let path = format!("/v1/services/{}", escape(service));
    let mut response = send(target, "GET", &path, &[], &[])?;
    let status = response.status();
    let body = body(&path, &mut response)?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    match status.as_u16() {
        200 => Ok(listed(target, &answer, "/registry")?.to_vec()),
        // Any server may have no such path; the error is a companion's.
        404 if answer.get("error").is_some() => Ok(Vec::new()),
        status => Err(refused(target, &path, status, &body)),
    }
}

fn path(one: &OneInstance) -> String {
    let (service, id) = (escape(&one.service), escape(&one.id));
    format!("/v1/services/{service}/instances/{id}")
}

fn drain(one: &OneInstance, drain: bool) -> Result<String, AskError> {
    // The API would register an unknown instance that is called by its address.
    let mut known = registry(&one.target, &one.service)?.into_iter();
    if !known.any(|instance| text(&instance, "/id") == one.id) {
        let (id, service) = (&one.id, &one.service);
        let error = format!("no instance {id} is registered for {service}");
        return Err(AskError::Refused(error));
    }
    let body = json!({ "drain": drain });
    let answer = call(&one.target, "PUT", &path(one), Some(&body))?;
    Ok(line(&answer))
}

fn line(instance: &Value) -> String {
    let drains = instance.get("draining") == Some(&Value::Bool(true));
    format!(
        "{} ({}), weight {}{}\n",
        text(instance, "/id"),
        text(instance, "/address"),
        number(instance, "/weight"),
        if drains { ", draining" } else { "" },
    )
}
