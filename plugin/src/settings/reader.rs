//! Reads fields out of a JSON object so that every error names path, value and rule, and nothing
//! that was written is ignored.
//!
//! Not `#[derive(Deserialize)]`: its errors have neither the path nor our rule.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

/// Why settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} = {value}: {rule}")]
pub struct SettingsError {
    /// Where, as `load.balance_factor` or `key[1].header`.
    pub path: String,
    /// What was there, as JSON, cut to a readable length.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl SettingsError {
    pub(crate) fn new(path: &str, value: &Value, rule: impl Into<String>) -> Self {
        const VALUE_CHARS_MAX: usize = 100;
        let value = value.to_string().chars().take(VALUE_CHARS_MAX).collect();
        Self {
            path: path.to_owned(),
            value,
            rule: rule.into(),
        }
    }
}

type Result<T> = std::result::Result<T, SettingsError>;

/// An object whose fields are taken one by one; what is left over at the end is unknown.
#[derive(Debug)]
pub(crate) struct Section {
    path: String,
    fields: Map<String, Value>,
    known: Vec<&'static str>,
    /// Where a field that is not here is looked for.
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: String,
    fields: Map<String, Value>,
    taken: Vec<&'static str>,
}

impl Section {
    pub(crate) fn new(path: &str, value: Value) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Self {
                path: path.to_owned(),
                fields,
                known: Vec::new(),
                shared: None,
            }),
            other => Err(SettingsError::new(path, &other, "must be an object")),
        }
    }

    /// The same, with the fields of another where it has none itself.
    pub(crate) fn over(self, shared: &Section) -> Self {
        let shared = Shared {
            path: shared.path.clone(),
            fields: shared.fields.clone(),
            taken: Vec::new(),
        };
        Self {
            shared: Some(shared),
            ..self
        }
    }

    /// Its own path.
    pub(crate) fn here(&self) -> &str {
        &self.path
    }

    /// The path of one of its fields.
    pub(crate) fn path(&self, field: &str) -> String {
        let shared = self.shared.as_ref();
        let shared = shared.filter(|shared| shared.taken.contains(&field));
        let path = shared.map_or(&self.path, |shared| &shared.path);
        if path.is_empty() {
            field.to_owned()
        } else {
            format!("{path}.{field}")
        }
    }

    /// Whether a field is there.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|value| !value.is_null())
    }

    /// Takes a field; `null` counts as absent.
    pub(crate) fn take(&mut self, field: &'static str) -> Option<Value> {
        self.known.push(field);
        let own = self.fields.remove(field).filter(|value| !value.is_null());
        if own.is_some() {
            return own;
        }
        let shared = self.shared.as_mut()?;
        let value = shared.fields.get(field).filter(|value| !value.is_null())?;
        shared.taken.push(field);
        Some(value.clone())
    }

    /// Refuses fields that have no place here.
    pub(crate) fn refuse(&mut self, fields: &[&'static str], rule: &str) -> Result<()> {
        match fields.iter().find(|field| self.has(field)) {
            Some(field) => {
                let value = self.take(field).unwrap_or(Value::Null);
                Err(SettingsError::new(&self.path(field), &value, rule))
            }
            None => Ok(()),
        }
    }

    /// What another one knows is known here, too.
    pub(crate) fn knows(&mut self, other: &Section) {
        self.known.extend(&other.known);
    }

    /// Ends the reading of fields that others have taken copies of.
    pub(crate) fn finish_shared(mut self) -> Result<()> {
        let known = std::mem::take(&mut self.known);
        self.fields
            .retain(|field, _| !known.contains(&field.as_str()));
        self.known = known;
        self.known.dedup();
        self.finish()
    }

    /// A nested object; empty if absent, so that all its defaults apply.
    pub(crate) fn section(&mut self, field: &'static str) -> Result<Section> {
        let value = self
            .take(field)
            .unwrap_or_else(|| Value::Object(Map::new()));
        Section::new(&self.path(field), value)
    }

    /// Ends the reading: a field nobody took is refused.
    pub(crate) fn finish(self) -> Result<()> {
        match self.fields.iter().next() {
            None => Ok(()),
            Some((field, value)) => {
                let rule = format!("unknown field, expected one of {}", self.known.join(", "));
                Err(SettingsError::new(&self.path(field), value, rule))
            }
        }
    }

    pub(crate) fn string(&mut self, field: &'static str, default: &str) -> Result<String> {
        match self.take(field) {
            None => Ok(default.to_owned()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(SettingsError::new(
                &self.path(field),
                &other,
                "must be a string",
            )),
        }
    }

    pub(crate) fn boolean(&mut self, field: &'static str, default: bool) -> Result<bool> {
        match self.take(field) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(value),
            Some(other) => Err(SettingsError::new(
                &self.path(field),
                &other,
                "must be true or false",
            )),
        }
    }

    /// A whole number; `125.0` is one, since a protobuf Struct knows only doubles.
    pub(crate) fn integer(
        &mut self,
        field: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64> {
        let Some(value) = self.take(field) else {
            return Ok(default);
        };
        whole(&value)
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let rule = format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                );
                SettingsError::new(&self.path(field), &value, rule)
            })
    }

    pub(crate) fn positive_u32(&mut self, field: &'static str, default: u32) -> Result<NonZeroU32> {
        let number = self.integer(field, u64::from(default), 1..=u64::from(u32::MAX))?;
        Ok(u32::try_from(number)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN))
    }

    pub(crate) fn duration(
        &mut self,
        field: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration> {
        let Some(value) = self.take(field) else {
            return Ok(default);
        };
        value
            .as_str()
            .and_then(parse_duration)
            .filter(|d| range.contains(d))
            .ok_or_else(|| {
                let rule = format!(
                    "must be a duration from {:?} to {:?}, as \"250ms\", \"5s\" or \"2m\"",
                    range.start(),
                    range.end()
                );
                SettingsError::new(&self.path(field), &value, rule)
            })
    }

    /// One of several words. A word that later versions will know says so.
    pub(crate) fn word<T: Copy>(
        &mut self,
        field: &'static str,
        default: T,
        words: &[(&str, T)],
        later: &[&str],
    ) -> Result<T> {
        let Some(value) = self.take(field) else {
            return Ok(default);
        };
        let text = value.as_str().unwrap_or_default();
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let rule = if later.contains(&text) {
            "is not supported yet".to_owned()
        } else {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("must be one of {}", known.join(", "))
        };
        Err(SettingsError::new(&self.path(field), &value, rule))
    }

    /// A list of objects, each with its path.
    pub(crate) fn list(&mut self, field: &'static str) -> Result<Option<Vec<Section>>> {
        let value = self.take(field);
        let path = self.path(field);
        match value {
            None => Ok(None),
            Some(Value::Array(values)) => values
                .into_iter()
                .enumerate()
                .map(|(index, value)| Section::new(&format!("{path}[{index}]"), value))
                .collect::<Result<_>>()
                .map(Some),
            Some(other) => Err(SettingsError::new(&path, &other, "must be a list")),
        }
    }
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        // Past 2^53 a double no longer tells neighbours apart.
        let exact = number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number);
        exact.then(|| format!("{number:.0}").parse().ok()).flatten()
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}
