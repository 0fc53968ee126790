//! Calls to Redis in the traces of the work that waits for them.

use std::borrow::Cow;

use opentelemetry::trace::SpanKind;
use redis::{Arg, Cmd, RedisResult, Value};

use crate::store::redis::scripts;
use crate::trace::{self, Work};

/// The span of a call that traced work waits for. The name is that of the command, or of our script.
pub(super) fn span(name: impl FnOnce() -> String) -> Option<Work> {
    trace::current()?;
    let name = name();
    let span = Work::part(SpanKind::Client, name.clone())?;
    span.set("db.system.name", "redis");
    span.set("db.operation.name", name);
    Some(span)
}

/// A call within its span, which has the code of an error: what the server says of it may name a key.
pub(super) async fn traced<T>(
    span: Option<Work>,
    call: impl Future<Output = RedisResult<T>>,
    code: for<'a> fn(&'a T) -> Option<&'a str>,
) -> RedisResult<T> {
    let answer = trace::within(span.as_ref(), call).await;
    if let Some(span) = &span {
        match &answer {
            Ok(answer) => {
                if let Some(code) = code(answer) {
                    span.failed(code);
                }
            }
            Err(error) => span.failed(error.category()),
        }
    }
    answer
}

/// The code of an error that a server answered. Without a script it gets one, and is asked again.
pub(super) fn error_code(answer: &Value) -> Option<&str> {
    match answer {
        Value::ServerError(error) => Some(error.code()).filter(|code| *code != "NOSCRIPT"),
        Value::Array(answers) => answers.iter().find_map(error_code),
        _ => None,
    }
}

/// The first of them of many answers.
#[expect(clippy::ptr_arg, reason = "it is the answer as the client has it")]
pub(super) fn first_code(answers: &Vec<Value>) -> Option<&str> {
    answers.iter().find_map(error_code)
}

pub(super) fn name_of(cmd: &Cmd) -> String {
    let mut parts = cmd.args_iter().map(|part| match part {
        Arg::Simple(part) => String::from_utf8_lossy(part),
        _ => Cow::default(),
    });
    let command = parts.next().unwrap_or_default();
    let script = parts.next().filter(|_| command == "EVALSHA");
    match script.and_then(|digest| scripts::name_of(&digest)) {
        Some(script) => format!("{command} {script}"),
        None => command.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_by_its_command_or_script_and_by_nothing_that_may_be_secret() {
        let mut get = redis::cmd("GET");
        get.arg("users/42");
        assert_eq!(name_of(&get), "GET");
        let write = scripts::Scripts::new().write;
        let mut call = redis::cmd("EVALSHA");
        call.arg(write.get_hash()).arg(1).arg("users/42");
        assert_eq!(name_of(&call), "EVALSHA write");
        let mut other = redis::cmd("EVALSHA");
        other.arg("5f0e").arg(0);
        assert_eq!(name_of(&other), "EVALSHA");
    }
}
