//! The filter and the format of the log.

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::ConfigError;
use super::raw::{Raw, Said};

/// The field of the form of log lines.
pub(crate) const LOG_FORMAT: &str = "log.format";

/// The filter and the format of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// Which lines, as `tracing` reads it.
    pub filter: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl LogFormat {
    const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// As the setting says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

pub(super) fn log(raw: &mut Raw) -> Result<LogSettings, ConfigError> {
    Ok(LogSettings {
        filter: filter(raw.take("log").or("info"))?,
        format: format(raw.take(LOG_FORMAT).or("text"))?,
    })
}

fn filter(said: Said) -> Result<String, ConfigError> {
    const RULE: &str =
        "must be a level (error, warn, info, debug, trace, off) or target=level, comma separated";
    let is_filter = said.text.parse::<Targets>().is_ok();
    // A word alone would count as a target, and nothing else would be logged.
    let mut words = said.text.split(',').map(str::trim);
    let is_plain = words.all(|word| word.contains('=') || word.parse::<LevelFilter>().is_ok());
    if is_filter && is_plain {
        return Ok(said.text);
    }
    Err(said.breaks(RULE))
}

fn format(said: Said) -> Result<LogFormat, ConfigError> {
    LogFormat::of(&said.text).ok_or_else(|| said.is_none_of(&LogFormat::ALL.map(LogFormat::as_str)))
}
