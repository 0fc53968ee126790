//! `key`: where the hash key of a request comes from.

use serde_json::Value;

use super::reader::{Section, SettingsError};

/// One source of the hash key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySource {
    /// The request header, in lower case.
    pub header: String,
    /// Whether the sources after it are ignored once the request has a key.
    pub terminal: bool,
}

/// What a header may be called.
pub(super) const HEADER_NAME_RULE: &str =
    "must be a header name: 1 to 128 letters, digits or !#$%&'*+-.^_`|~";

const SOURCES_MAX: usize = 16;

pub(super) fn is_header_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(token)
}

pub(super) fn read(root: &mut Section) -> Result<Vec<KeySource>, SettingsError> {
    let Some(sections) = root.list("key")? else {
        return Ok(vec![KeySource {
            header: "x-user-id".to_owned(),
            terminal: false,
        }]);
    };
    if sections.is_empty() || sections.len() > SOURCES_MAX {
        let value = Value::from(sections.len());
        let rule = format!("must have 1 to {SOURCES_MAX} sources");
        return Err(SettingsError::new("key", &value, rule));
    }
    sections.into_iter().map(source).collect()
}

fn source(mut section: Section) -> Result<KeySource, SettingsError> {
    for later in ["cookie", "query", "source_ip", "path"] {
        section.not_supported_yet(later)?;
    }
    let header = section.string("header", "")?;
    if !is_header_name(&header) {
        let path = section.path("header");
        return Err(SettingsError::new(
            &path,
            &Value::String(header),
            HEADER_NAME_RULE,
        ));
    }
    let terminal = section.boolean("terminal", false)?;
    section.finish()?;
    Ok(KeySource {
        header: header.to_ascii_lowercase(),
        terminal,
    })
}
