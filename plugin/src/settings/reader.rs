//! Reads fields out of a JSON object so that every error names path, value and rule, and nothing
//! that was written is ignored.
//!
//! Not `#[derive(Deserialize)]`: its errors have neither the path nor our rule.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::json::{Fields, Json};

/// Why settings are refused.
// In a box, since nearly every line of the settings hands one on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} = {}: {}", .0.path, .0.value, .0.rule)]
pub struct SettingsError(Box<Refusal>);

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where, as `load.balance_factor` or `key[1].header`.
    pub path: String,
    /// What was there, as JSON, cut to a readable length.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl SettingsError {
    pub(crate) fn new(path: &str, value: &Json, rule: impl Into<String>) -> Self {
        const VALUE_CHARS_MAX: usize = 100;
        let value = value.to_string().chars().take(VALUE_CHARS_MAX).collect();
        Self(Box::new(Refusal {
            path: path.to_owned(),
            value,
            rule: rule.into(),
        }))
    }
}

impl std::ops::Deref for SettingsError {
    type Target = Refusal;

    fn deref(&self) -> &Refusal {
        &self.0
    }
}

type Result<T> = std::result::Result<T, SettingsError>;

/// An object whose fields are taken one by one; what is left over at the end is unknown.
#[derive(Debug)]
pub(crate) struct Section {
    path: String,
    fields: Fields,
    known: Vec<&'static str>,
    /// Where a field that is not here is looked for.
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: String,
    fields: Fields,
    taken: Vec<&'static str>,
}

impl Section {
    pub(crate) fn new(path: &str, value: Json) -> Result<Self> {
        match value {
            Json::Object(fields) => Ok(Self {
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
        get(&self.fields, field).is_some()
    }

    /// Takes a field; `null` counts as absent.
    pub(crate) fn take(&mut self, field: &'static str) -> Option<Json> {
        self.known.push(field);
        let own = self.fields.iter().position(|(name, _)| name == field);
        let own = own.map(|at| self.fields.swap_remove(at).1);
        if let Some(own) = own.filter(|value| *value != Json::Null) {
            return Some(own);
        }
        let shared = self.shared.as_mut()?;
        let value = get(&shared.fields, field)?.clone();
        shared.taken.push(field);
        Some(value)
    }

    /// Refuses fields that have no place here.
    pub(crate) fn refuse(&mut self, fields: &[&'static str], rule: &str) -> Result<()> {
        match fields.iter().find(|field| self.has(field)) {
            Some(field) => {
                let value = self.take(field).unwrap_or(Json::Null);
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
        self.fields.retain(|(field, _)| !known.contains(&&**field));
        self.known = known;
        self.known.dedup();
        self.finish()
    }

    /// A nested object; empty if absent, so that all its defaults apply.
    pub(crate) fn section(&mut self, field: &'static str) -> Result<Section> {
        let value = self
            .take(field)
            .unwrap_or_else(|| Json::Object(Fields::new()));
        Section::new(&self.path(field), value)
    }

    /// Ends the reading: a field nobody took is refused.
    pub(crate) fn finish(self) -> Result<()> {
        match self.fields.iter().min_by_key(|(field, _)| field) {
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
            Some(Json::Text(text)) => Ok(text),
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
            Some(Json::Flag(value)) => Ok(value),
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
        text(&value)
            .and_then(parse_duration)
            .filter(|d| range.contains(d))
            .ok_or_else(|| {
                let (least, most) = (written(*range.start()), written(*range.end()));
                let rule = format!(
                    "must be a duration from {least} to {most}, as \"250ms\", \"5s\" or \"2m\""
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
        let text = text(&value).unwrap_or_default();
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
            Some(Json::List(values)) => values
                .into_iter()
                .enumerate()
                .map(|(index, value)| Section::new(&format!("{path}[{index}]"), value))
                .collect::<Result<_>>()
                .map(Some),
            Some(other) => Err(SettingsError::new(&path, &other, "must be a list")),
        }
    }
}

/// A field that is there; `null` counts as absent.
fn get<'a>(fields: &'a Fields, field: &str) -> Option<&'a Json> {
    let mut fields = fields.iter().filter(|(_, value)| *value != Json::Null);
    fields
        .find(|(name, _)| name == field)
        .map(|(_, value)| value)
}

fn text(value: &Json) -> Option<&str> {
    match value {
        Json::Text(text) => Some(text),
        _ => None,
    }
}

fn whole(value: &Json) -> Option<u64> {
    match value {
        Json::Number(number) => Some(*number),
        // Past 2^53 a double no longer tells neighbours apart.
        Json::Double(number) if (0.0..9_007_199_254_740_992.0).contains(number) => {
            (number.fract() == 0.0).then(|| as_u64(*number))
        }
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number from 0 to 2^53"
)]
fn as_u64(number: f64) -> u64 {
    number as u64
}

/// As it would be written in settings.
fn written(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
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
