//! Whether a companion answers at an address: the one place that decides so, by the answer to `/readyz`.

use serde_json::Value;

use super::Target;
use super::ask::{AskError, ask};

/// The path that only a companion answers in its way.
pub(crate) const READY: &str = "/readyz";

/// Whether this is a companion's answer to `/readyz`.
pub(crate) fn is_readiness(answer: &Value) -> bool {
    answer.get("checks").is_some_and(Value::is_object)
}

/// Refuses a server that is no companion before it gets a request: a `DELETE` is not for it, and its answer of 200
/// would look like success. Every version of a companion answers `/readyz` in its own shape, without a token. Asked once
/// for each target.
pub(crate) fn is_companion(target: &Target) -> Result<(), AskError> {
    match target.is_known.get() {
        Some(()) => Ok(()),
        None => ready(target).map(drop),
    }
}

/// Whether the companion is ready, which one of unitring always says.
pub(crate) fn ready(target: &Target) -> Result<Value, AskError> {
    let not_a_companion = || AskError::NoCompanion(target.url.clone());
    let answer = ask(target, READY)?;
    if let (Some(error), None) = (
        answer.get("error").and_then(Value::as_str),
        answer.get("ready"),
    ) {
        return Err(AskError::Refused(error.to_owned()));
    }
    match is_readiness(&answer) {
        true => {
            target.is_known.get_or_init(|| ());
            Ok(answer)
        }
        false => Err(not_a_companion()),
    }
}
