//! What was said: the file, and over it environment and flags. Nothing is judged here but form.

use std::collections::BTreeMap;
use std::path::Path;

use super::ConfigError;

/// Fields by path (`store.kind`), as text.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    said: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

/// What was said about one field.
#[derive(Debug, Clone)]
pub struct Said {
    path: &'static str,
    secret: bool,
    given: bool,
    /// The text; empty if nothing was said.
    pub text: String,
}

impl Raw {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], or as [`Raw::parse`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`], or [`ConfigError::Field`] for a value that no field can have.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table =
            text.parse()
                .map_err(|error: toml::de::Error| ConfigError::Syntax {
                    path: path.to_owned(),
                    message: error.to_string().trim_end().to_owned(),
                })?;
        let mut raw = Self::default();
        raw.flatten("", &table)?;
        Ok(raw)
    }

    fn flatten(&mut self, prefix: &str, table: &toml::Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let path = format!("{prefix}{name}");
            match value {
                toml::Value::Table(inner) => self.flatten(&format!("{path}."), inner)?,
                toml::Value::Array(items) => {
                    let text: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                    let text = text.ok_or_else(|| not_text(&path, value))?;
                    self.said.insert(path, text.join(","));
                }
                toml::Value::String(text) => self.set(&path, text),
                toml::Value::Integer(number) => self.set(&path, &number.to_string()),
                _ => return Err(not_text(&path, value)),
            }
        }
        Ok(())
    }

    /// Says something over what was said before: the environment or a flag.
    pub fn set(&mut self, path: &str, text: &str) {
        self.said.insert(path.to_owned(), text.to_owned());
    }

    /// Takes what was said about a field.
    pub fn take(&mut self, path: &'static str) -> Said {
        self.known.push(path);
        let said = self.said.remove(path);
        Said {
            path,
            secret: false,
            given: said.as_ref().is_some_and(|text| !text.is_empty()),
            text: said.unwrap_or_default(),
        }
    }

    /// Refuses whatever nobody took.
    ///
    /// # Errors
    /// [`ConfigError::Field`] for the first of them.
    pub fn finish(self) -> Result<(), ConfigError> {
        let Some((path, value)) = self.said.into_iter().next() else {
            return Ok(());
        };
        Err(ConfigError::Field {
            path,
            value: format!("{value:?}"),
            rule: format!("unknown field; the fields are {}", self.known.join(", ")),
        })
    }
}

impl Said {
    /// With a default.
    pub fn or(mut self, default: &str) -> Self {
        if !self.given {
            default.clone_into(&mut self.text);
        }
        self
    }

    /// No error may show it.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// `None` if nothing was said, or the empty text.
    pub fn given(self) -> Option<Self> {
        self.given.then_some(self)
    }

    /// The same field with another text: an item of a list.
    pub fn with(&self, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..self.clone()
        }
    }

    /// The error that it breaks a rule.
    pub fn breaks(&self, rule: &str) -> ConfigError {
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

fn not_text(path: &str, value: &toml::Value) -> ConfigError {
    ConfigError::Field {
        path: path.to_owned(),
        value: value.to_string(),
        rule: "must be a text, a number or a list of texts".to_owned(),
    }
}
