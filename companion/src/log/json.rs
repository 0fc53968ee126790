//! Events → lines of JSON: `time`, `level`, `target`, `message`, then the fields of the event and of the spans around it.
//!
//! Invariant: a line is one JSON object without a line break in it, for any content of its fields; no field takes the
//! place of one of the first four.

use std::fmt;
use std::io::{self, Write as _};

use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::one_line;
use crate::clock;

/// The fields of every line.
const OWN: [&str; 4] = ["time", "level", "target", "message"];

/// Writes events to the standard error.
#[derive(Debug)]
pub(super) struct Json;

/// Fields of an event or a span.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl<S> Layer<S> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Map::new();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Fields(fields)) = span.extensions().get::<Fields>() {
                // The inner span comes first, and says it better.
                for (name, value) in fields {
                    all.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        all.extend(fields.0);
        let message = all.remove("message");
        let message = message.as_ref().and_then(Value::as_str).unwrap_or_default();
        let metadata = event.metadata();
        let line = line(*metadata.level(), metadata.target(), message, &all);
        write(&line);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, one_line(value).into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, one_line(&format!("{value:?}")).into());
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

/// A line of now, with the line break at its end.
pub(super) fn line(
    level: Level,
    target: &str,
    message: &str,
    fields: &Map<String, Value>,
) -> Vec<u8> {
    let time = humantime::format_rfc3339_millis(clock::wall()).to_string();
    let mut line = Vec::with_capacity(256);
    let mut json = serde_json::Serializer::new(&mut line);
    let written = json.serialize_map(None).and_then(|mut map| {
        let own = [time.as_str(), level.as_str(), target, message];
        for (name, value) in OWN.iter().zip(own) {
            map.serialize_entry(name, value)?;
        }
        let others = fields
            .iter()
            .filter(|(name, _)| !OWN.contains(&name.as_str()));
        for (name, value) in others {
            map.serialize_entry(name, value)?;
        }
        map.end()
    });
    // Memory takes every byte, and these are texts and numbers.
    debug_assert!(written.is_ok());
    line.push(b'\n');
    line
}

/// Writes a whole line at once, so that no other gets into it.
pub(super) fn write(line: &[u8]) {
    // If standard error is closed, there is nowhere to say so.
    io::stderr().lock().write_all(line).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(line: &[u8]) -> Value {
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(line).unwrap()
    }

    #[test]
    fn a_line_begins_with_what_every_line_has() {
        let mut fields = Map::new();
        fields.insert("level".to_owned(), "forged".into());
        fields.insert("service".to_owned(), "a\nb".into());
        let line = line(Level::WARN, "unitring::x", "it \"said\"\n", &fields);
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(text.starts_with("{\"time\":\"20"), "{text}");
        let mut told = parsed(&line);
        let time = told["time"].take();
        let time = time.as_str().unwrap();
        assert!(
            humantime::parse_rfc3339(time).is_ok()
                && time.len() == "2026-01-01T00:00:00.000Z".len(),
            "{time}"
        );
        assert_eq!(
            told,
            json!({"time": null, "level": "WARN", "target": "unitring::x", "message": "it \"said\"\n",
                "service": "a\nb"})
        );
    }
}
