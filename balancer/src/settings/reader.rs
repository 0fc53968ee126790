//! Reads fields out of a JSON object so that every error names path, value and rule, and no field
//! is ignored.
//!
//! `#[derive(Deserialize)]` would not do: its errors have neither the path nor our rule. A field
//! that breaks its rule reads as its default, and the first such error ends the reading, so the
//! reader of a section is a plain list of its fields.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::json::{Fields, Json};

/// Why settings are refused.
// Boxed, since nearly every line that reads settings passes one on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} = {}: {}", .0.path, .0.value, .0.rule)]
pub struct SettingsError(Box<Refusal>);

/// The field that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its path, as `load.balance_factor` or `key[1].header`.
    pub path: String,
    /// Its value as JSON, cut to 100 characters.
    pub value: String,
    /// The rule it breaks.
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

/// An object whose fields are taken out by name. A field left over at the end is unknown.
#[derive(Debug)]
pub(crate) struct Section {
    path: String,
    fields: Fields,
    known: Vec<&'static str>,
    /// Where to look for fields that are missing here.
    shared: Option<Shared>,
    /// The first error so far.
    refused: Option<SettingsError>,
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
                refused: None,
            }),
            other => Err(SettingsError::new(path, &other, "must be an object")),
        }
    }

    /// This section, with the fields of `shared` where it has none of its own.
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

    /// The path of this section.
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

    /// The error to return for a rule that the caller checks itself. An earlier error takes
    /// precedence.
    pub(crate) fn error(
        &mut self,
        field: &str,
        value: &Json,
        rule: impl Into<String>,
    ) -> SettingsError {
        let before = self.refused.take();
        before.unwrap_or_else(|| SettingsError::new(&self.path(field), value, rule))
    }

    /// Keeps an error for the end, unless there is an earlier one.
    fn note(&mut self, field: &str, value: &Json, rule: impl Into<String>) {
        self.refused = Some(self.error(field, value, rule));
    }

    /// Whether this section itself has a field.
    pub(crate) fn has(&self, field: &str) -> bool {
        get(&self.fields, field).is_some()
    }

    /// Takes a field, if need be from the shared section; `null` counts as absent.
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

    /// Fails if one of these fields is present.
    pub(crate) fn refuse(&mut self, fields: &[&'static str], rule: &str) -> Result<()> {
        match fields.iter().find(|field| self.has(field)) {
            Some(field) => {
                let value = self.take(field).unwrap_or(Json::Null);
                Err(SettingsError::new(&self.path(field), &value, rule))
            }
            None => Ok(()),
        }
    }

    /// Adds the fields that `other` knows to those known here.
    pub(crate) fn knows(&mut self, other: &Section) {
        self.known.extend(&other.known);
    }

    /// Ends the reading of a section whose fields other sections have copied.
    pub(crate) fn finish_shared(mut self) -> Result<()> {
        let known = std::mem::take(&mut self.known);
        self.fields.retain(|(field, _)| !known.contains(&&**field));
        self.known = known;
        self.known.dedup();
        self.finish()
    }

    /// Takes a nested object. An absent one is empty, so that all its defaults apply.
    pub(crate) fn section(&mut self, field: &'static str) -> Result<Section> {
        let value = self
            .take(field)
            .unwrap_or_else(|| Json::Object(Fields::new()));
        Section::new(&self.path(field), value)
    }

    /// Ends the reading; fails with the first error, or with a field that no reader took.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        match self.fields.iter().min_by_key(|(field, _)| field) {
            None => Ok(()),
            Some((field, value)) => {
                let rule = format!("unknown field, expected one of {}", self.known.join(", "));
                Err(SettingsError::new(&self.path(field), value, rule))
            }
        }
    }

    pub(crate) fn string(&mut self, field: &'static str, default: &str) -> String {
        match self.take(field) {
            None => {}
            Some(Json::Text(text)) => return text,
            Some(other) => self.note(field, &other, "must be a string"),
        }
        default.to_owned()
    }

    pub(crate) fn boolean(&mut self, field: &'static str, default: bool) -> bool {
        match self.take(field) {
            None => {}
            Some(Json::Flag(value)) => return value,
            Some(other) => self.note(field, &other, "must be true or false"),
        }
        default
    }

    /// Takes a whole number. `125.0` counts as one, since a protobuf Struct knows only doubles.
    pub(crate) fn integer(
        &mut self,
        field: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(value) = self.take(field) else {
            return default;
        };
        match whole(&value).filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let (least, most) = range.into_inner();
                let rule = format!("must be a whole number from {least} to {most}");
                self.note(field, &value, rule);
                default
            }
        }
    }

    /// Takes a number from 0 to `most`, with up to three decimals; returns its thousandths, 0 if it is
    /// absent.
    pub(crate) fn thousandths(&mut self, field: &'static str, most: u32) -> u64 {
        let Some(value) = self.take(field) else {
            return 0;
        };
        let thousandths = match &value {
            Json::Number(number) => number.checked_mul(1_000),
            // 0.29 × 1000 is a little less than 290.
            Json::Double(number) if (0.0..1e9).contains(number) => {
                let (thousandths, rounded) = (number * 1_000.0, (number * 1_000.0).round());
                ((thousandths - rounded).abs() < 1e-6).then(|| as_u64(rounded))
            }
            _ => None,
        };
        let most = u64::from(most);
        match thousandths.filter(|number| *number <= most * 1_000) {
            Some(number) => number,
            None => {
                let rule = format!("must be a number from 0 to {most} with at most three decimals");
                self.note(field, &value, rule);
                0
            }
        }
    }

    /// Takes a whole number that may be absent.
    pub(crate) fn optional(
        &mut self,
        field: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.has_anywhere(field)
            .then(|| self.integer(field, *range.start(), range))
    }

    /// Takes a flag that may be absent.
    pub(crate) fn optional_boolean(&mut self, field: &'static str) -> Option<bool> {
        self.has_anywhere(field).then(|| self.boolean(field, false))
    }

    /// Whether this section or the shared one has a field; marks the field as known.
    fn has_anywhere(&mut self, field: &'static str) -> bool {
        self.known.push(field);
        let shared = self.shared.as_ref();
        self.has(field) || shared.is_some_and(|shared| get(&shared.fields, field).is_some())
    }

    pub(crate) fn positive_u32(&mut self, field: &'static str, default: u32) -> NonZeroU32 {
        let number = self.integer(field, u64::from(default), 1..=u64::from(u32::MAX));
        u32::try_from(number)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN)
    }

    pub(crate) fn duration(
        &mut self,
        field: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = self.take(field) else {
            return default;
        };
        let read = text(&value).and_then(parse_duration);
        match read.filter(|duration| range.contains(duration)) {
            Some(duration) => duration,
            None => {
                let (least, most) = (written(*range.start()), written(*range.end()));
                let rule = format!(
                    "must be a duration from {least} to {most}, as \"250ms\", \"0.5s\" or \"2m\""
                );
                self.note(field, &value, rule);
                default
            }
        }
    }

    /// Takes one of several words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        field: &'static str,
        default: T,
        words: &[(&'static str, T)],
    ) -> T {
        let word = |at: usize| words.get(at).map(|(word, _)| *word);
        let place = self.place_of_word(field, &word);
        let meant = place.and_then(|at| words.get(at));
        meant.map_or(default, |(_, meaning)| *meaning)
    }

    /// The index of the word; not generic over what words mean, so that it is compiled once.
    fn place_of_word(
        &mut self,
        field: &'static str,
        word: &dyn Fn(usize) -> Option<&'static str>,
    ) -> Option<usize> {
        let value = self.take(field)?;
        let text = text(&value).unwrap_or_default();
        let words: Vec<&str> = (0..).map_while(word).collect();
        if let Some(place) = words.iter().position(|word| *word == text) {
            return Some(place);
        }
        let rule = format!("must be one of {}", words.join(", "));
        self.note(field, &value, rule);
        None
    }

    /// Takes a list of objects; the path of each has its index.
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

/// A field's value; `null` counts as absent.
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
        // From 2^53 on, a double can't tell neighbouring whole numbers apart.
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

/// The duration as settings write it.
fn written(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}

/// Parses a number, with or without decimals, and its unit. Without floating point, so that `0.1s`
/// is exactly 100 ms.
fn parse_duration(text: &str) -> Option<Duration> {
    const NANOS_DIGITS: usize = 9;
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (whole, decimals) = match number.split_once('.') {
        // `5.s` and `.5s` are no numbers.
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    let unit_ns: u64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        _ => return None,
    };
    let whole: u64 = whole.parse().ok()?;
    if decimals.len() > NANOS_DIGITS || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut part: u64 = 0;
    let mut scale: u64 = 1;
    for digit in decimals.bytes() {
        part = part * 10 + u64::from(digit - b'0');
        scale *= 10;
    }
    let part_ns = u128::from(part) * u128::from(unit_ns) / u128::from(scale);
    let whole_ns = whole.checked_mul(unit_ns)?;
    Some(Duration::from_nanos(
        whole_ns.checked_add(u64::try_from(part_ns).ok()?)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_decimals_and_a_unit() {
        let ms = |text| parse_duration(text).map(|duration| duration.as_millis());
        for (text, expected) in [
            ("250ms", 250),
            ("0.5s", 500),
            ("0.1s", 100),
            ("1.25m", 75_000),
            ("2m", 120_000),
            ("0s", 0),
        ] {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            "5",
            ".5s",
            "5.s",
            "1.2.3s",
            "-1s",
            "5h",
            "1e3s",
            "99999999999999s",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
}
