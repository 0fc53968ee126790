//! Settings → where log lines go, also those before there are settings.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::panic::{self, PanicHookInfo};

use serde_json::{Map, Value};
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::{fields, filter, json, one_line};
use crate::config::{LogFormat, LogSettings};
use crate::output::complain;

/// Changes which lines are written while the process runs.
#[derive(Debug, Clone)]
pub(crate) struct Changer(reload::Handle<EnvFilter, Registry>);

impl Changer {
    /// From now on those of this filter.
    ///
    /// # Errors
    /// The log is gone.
    pub(crate) fn change(&self, asked: &str) -> Result<(), reload::Error> {
        self.0.reload(filter(asked))
    }
}

/// Starts the log of the process.
pub(crate) fn start(settings: &LogSettings) -> Changer {
    let (filter, changer) = reload::Layer::new(filter(&settings.filter));
    let is_json = settings.format == LogFormat::Json;
    let text = tracing_subscriber::fmt::layer()
        .fmt_fields(fields())
        .with_writer(io::stderr);
    tracing_subscriber::registry()
        .with(filter)
        .with((!is_json).then_some(text))
        .with(is_json.then_some(json::Json))
        .init();
    if is_json {
        panic::set_hook(Box::new(|panicked| json::write(&panic_line(panicked))));
    }
    Changer(changer)
}

/// Says something that is no part of the log: before it starts, or after the process has failed.
pub(crate) fn say(format: LogFormat, level: Level, message: &str) {
    match format {
        LogFormat::Text if level == Level::ERROR => complain(message),
        LogFormat::Text => complain(format_args!("{}: {message}", in_words(level))),
        LogFormat::Json => {
            json::write(&json::line(
                level,
                "unitring",
                &one_line(message),
                &Map::new(),
            ));
        }
    }
}

fn in_words(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        _ => "info",
    }
}

fn panic_line(panicked: &PanicHookInfo<'_>) -> Vec<u8> {
    let payload = panicked.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let mut fields = Map::new();
    if let Some(at) = panicked.location() {
        fields.insert("at".to_owned(), at.to_string().into());
    }
    let thread = std::thread::current();
    fields.insert(
        "thread".to_owned(),
        thread.name().map_or(Value::Null, Value::from),
    );
    // Where RUST_BACKTRACE asks for it.
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        fields.insert("backtrace".to_owned(), trace.to_string().into());
    }
    let message = format!("panicked: {}", text.unwrap_or("without a text"));
    json::line(Level::ERROR, "unitring", &one_line(&message), &fields)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_panic_is_a_line_with_its_text_and_its_place() {
        let said: Arc<Mutex<Vec<u8>>> = Arc::default();
        let hears = Arc::clone(&said);
        let before = panic::take_hook();
        let me = std::thread::current().id();
        panic::set_hook(Box::new(move |panicked| {
            // Other tests may panic meanwhile.
            if std::thread::current().id() == me {
                *hears.lock().unwrap() = panic_line(panicked);
            }
        }));
        let ended = panic::catch_unwind(|| panic!("no\nsuch {}", "thing"));
        panic::set_hook(before);
        assert!(ended.is_err());
        let line: Value = serde_json::from_slice(&said.lock().unwrap()).unwrap();
        assert_eq!(line["message"], "panicked: no\\u{a}such thing");
        assert_eq!(line["level"], "ERROR");
        assert!(
            line["at"].as_str().unwrap().contains("log/start.rs:"),
            "{line}"
        );
    }
}
