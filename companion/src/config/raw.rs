//! The given values: the file, overridden by environment and flags. Only their form is checked
//! here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// Fields by path (`store.kind`), as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Raw {
    said: BTreeMap<String, String>,
    known: Vec<&'static str>,
    /// The file and its text, for the lines of errors.
    file: Option<(PathBuf, String)>,
}

/// The given value of one field.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    path: &'static str,
    secret: bool,
    given: bool,
    /// The text; empty if none was given.
    pub text: String,
}

impl Raw {
    /// Reads a file.
    ///
    /// # Errors [`ConfigError::Unreadable`], or those of [`Raw::parse`].
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file.
    ///
    /// # Errors [`ConfigError::Syntax`], or [`ConfigError::Field`] for a value of a type that no
    /// field has.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table =
            text.parse()
                .map_err(|error: toml::de::Error| ConfigError::Syntax {
                    path: path.to_owned(),
                    message: syntax(text, &error),
                })?;
        let mut raw = Self {
            file: Some((path.to_owned(), text.to_owned())),
            ..Self::default()
        };
        raw.flatten("", &table)?;
        // A file that also says the format has a table, in which the filter needs a name.
        if let Some(filter) = raw.said.remove(LOG_FILTER) {
            raw.set("log", &filter);
        }
        Ok(raw)
    }

    fn flatten(&mut self, prefix: &str, table: &toml::Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let path = format!("{prefix}{name}");
            match value {
                toml::Value::Table(inner) => self.flatten(&format!("{path}."), inner)?,
                toml::Value::Array(items) => {
                    let text: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                    let text = text.ok_or_else(|| self.not_text(&path, value))?;
                    self.said.insert(path, text.join(","));
                }
                toml::Value::String(text) => self.set(&path, text),
                toml::Value::Integer(number) => self.set(&path, &number.to_string()),
                toml::Value::Float(number) => self.set(&path, &number.to_string()),
                toml::Value::Boolean(is) => self.set(&path, &is.to_string()),
                _ => return Err(self.not_text(&path, value)),
            }
        }
        Ok(())
    }

    fn not_text(&self, path: &str, value: &toml::Value) -> ConfigError {
        ConfigError::Unshown {
            path: place(self.file.as_ref(), path) + path,
            rule: format!(
                "must be a text, a number, true, false or a list of texts, not {}",
                match value {
                    toml::Value::Array(_) => "a list with something else",
                    toml::Value::Datetime(_) => "a date",
                    _ => "this",
                }
            ),
        }
    }

    /// Overrides a value by the environment or a flag.
    pub(crate) fn set(&mut self, path: &str, text: &str) {
        self.said.insert(path.to_owned(), text.to_owned());
    }

    /// The value of a field, if one was given, without taking it.
    pub(crate) fn peek(&self, path: &str) -> Option<&str> {
        self.said.get(path).map(String::as_str)
    }

    /// Takes the value of a field.
    pub(crate) fn take(&mut self, path: &'static str) -> Said {
        self.known.push(path);
        let said = self.said.remove(path);
        Said {
            path,
            secret: false,
            given: said.as_ref().is_some_and(|text| !text.is_empty()),
            text: said.unwrap_or_default(),
        }
    }

    /// Refuses fields that were not taken: they are unknown.
    ///
    /// # Errors [`ConfigError::Field`] for the first of them.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        let Some((path, _)) = self.said.into_iter().next() else {
            return Ok(());
        };
        let known = self.known.iter().copied().chain([LOG_FILTER]);
        let rule = match nearest(&path, known) {
            Some(known) => format!("unknown field; did you mean {known}?"),
            None => "unknown field; `unitring serve --help` lists the settings".to_owned(),
        };
        // Its value may be a secret of a field whose name was misspelt.
        Err(ConfigError::Unshown {
            path: place(self.file.as_ref(), &path) + &path,
            rule,
        })
    }
}

/// The line of a field in the text of a file, from 1 on, in any syntax: in a section, in an inline table, or
/// with quotes.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let start = start_of(table.get_ref(), path)?;
    Some(text.get(..start)?.matches('\n').count() + 1)
}

fn start_of(table: &DeTable<'_>, path: &str) -> Option<usize> {
    table.iter().find_map(|(name, value)| {
        let rest = path.strip_prefix(name.get_ref().as_ref())?;
        if rest.is_empty() {
            return Some(name.span().start);
        }
        match value.get_ref() {
            DeValue::Table(inner) => start_of(inner, rest.strip_prefix('.')?),
            _ => None,
        }
    })
}

/// The known name that was probably meant.
pub(crate) fn nearest<'a>(said: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|name| (strsim::normalized_damerau_levenshtein(said, name), name));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    // A letter of a short word weighs more.
    let is_by_a_letter = || said.len() > 2 && strsim::damerau_levenshtein(said, best.1) == 1;
    (best.0 >= ALIKE || is_by_a_letter()).then_some(best.1)
}

/// The log's filter in a file that also says the log's format; elsewhere it is `log`.
const LOG_FILTER: &str = "log.filter";
/// The similarity above which one name may be meant for another.
const ALIKE: f64 = 0.7;

impl Said {
    /// Sets a default.
    pub(crate) fn or(mut self, default: &str) -> Self {
        if !self.given {
            default.clone_into(&mut self.text);
        }
        self
    }

    /// Hides the value in errors.
    pub(crate) fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// `None` if no value was given, or the empty text.
    pub(crate) fn given(self) -> Option<Self> {
        self.given.then_some(self)
    }

    /// The same field with another text: an item of a list.
    pub(crate) fn with(&self, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..self.clone()
        }
    }

    /// The error for a value that is not among these words; it names the word that was probably meant.
    pub(crate) fn is_none_of(&self, words: &[&str]) -> ConfigError {
        let meant = nearest(&self.text, words.iter().copied());
        let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        self.breaks(&format!("must be one of {}{meant}", words.join(", ")))
    }

    /// The error for a value that breaks this rule.
    pub(crate) fn breaks(&self, rule: &str) -> ConfigError {
        let value = if self.secret {
            "<redacted>".to_owned()
        } else {
            format!("{:?}", self.text)
        };
        ConfigError::Field {
            path: self.path.to_owned(),
            value,
            rule: rule.to_owned(),
        }
    }
}

/// `FILE, line 3: `, if a file has the field.
fn place(file: Option<&(PathBuf, String)>, path: &str) -> String {
    let place = file.and_then(|(file, text)| {
        let line = line_of(text, path)?;
        Some(format!("{}, line {line}: ", file.display()))
    });
    place.unwrap_or_default()
}

/// The syntax error and its place, without the line itself: a token may be in it.
pub(crate) fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}
