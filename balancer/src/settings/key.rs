//! `key`: where the hash key of a request comes from.

use super::reader::{Section, SettingsError};
use crate::json::Json;
use crate::request::OWN_PREFIX;

/// One source of the hash key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySource {
    /// What is hashed.
    pub from: KeyFrom,
    /// Whether later sources are ignored once the request has a key.
    pub terminal: bool,
}

/// What is hashed; each variant acts like the hash policy of that name in Envoy's routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFrom {
    /// A request header, in lower case. `:path` hashes the path with its query, as Envoy does;
    /// `:authority` stands for `host`, as in Envoy.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
    /// The client's IP address, without the port.
    SourceIp,
}

/// The rule for a header's name, as an error states it.
pub(super) const HEADER_NAME_RULE: &str =
    "must be a header name: 1 to 128 letters, digits or !#$%&'*+-.^_`|~";
const COOKIE_NAME_RULE: &str = "must be a cookie name: 1 to 128 letters, digits or !#$%&'*+-.^_`|~";
const QUERY_NAME_RULE: &str = "must be a parameter name: 1 to 128 bytes without & = # and spaces";

const SOURCES_MAX: usize = 16;

/// A token of RFC 9110, the syntax of names of headers and cookies.
pub(super) fn is_header_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(token)
}

fn is_query_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"&=#".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(plain)
}

pub(super) fn read(root: &mut Section) -> Result<Vec<KeySource>, SettingsError> {
    let Some(sections) = root.list("key")? else {
        return Ok(vec![KeySource {
            from: KeyFrom::Header("x-user-id".to_owned()),
            terminal: false,
        }]);
    };
    if sections.is_empty() || sections.len() > SOURCES_MAX {
        let value = Json::from(sections.len());
        let rule = format!("must have 1 to {SOURCES_MAX} sources");
        return Err(root.error("key", &value, rule));
    }
    sections.into_iter().map(source).collect()
}

fn source(mut section: Section) -> Result<KeySource, SettingsError> {
    const KINDS: [&str; 5] = ["header", "cookie", "query", "source_ip", "path"];
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| section.has(kind)).collect();
    let from = match given.as_slice() {
        ["cookie"] => KeyFrom::Cookie(name(
            &mut section,
            "cookie",
            is_header_name,
            COOKIE_NAME_RULE,
        )?),
        ["query"] => KeyFrom::Query(name(&mut section, "query", is_query_name, QUERY_NAME_RULE)?),
        ["source_ip"] => yes(&mut section, "source_ip", KeyFrom::SourceIp)?,
        ["path"] => yes(&mut section, "path", KeyFrom::Header(":path".to_owned()))?,
        ["header"] => {
            let name = name(&mut section, "header", is_header_name, HEADER_NAME_RULE)?;
            let kept = as_envoy_keeps_it(&name);
            if kept.starts_with(OWN_PREFIX) {
                let rule = "must not begin with x-unitring-: the filter removes such headers from client requests";
                return Err(section.error("header", &Json::Text(name), rule));
            }
            KeyFrom::Header(kept)
        }
        _ => {
            let rule = "must have exactly one of header, cookie, query, source_ip, path";
            let value = Json::from(given.len());
            return Err(SettingsError::new(section.here(), &value, rule));
        }
    };
    let terminal = section.boolean("terminal", false);
    section.finish()?;
    Ok(KeySource { from, terminal })
}

fn as_envoy_keeps_it(name: &str) -> String {
    if name.eq_ignore_ascii_case("host") {
        return ":authority".to_owned();
    }
    name.to_ascii_lowercase()
}

fn name(
    section: &mut Section,
    field: &'static str,
    is_name: fn(&str) -> bool,
    rule: &str,
) -> Result<String, SettingsError> {
    let name = section.string(field, "");
    if is_name(&name) {
        return Ok(name);
    }
    Err(section.error(field, &Json::Text(name), rule))
}

fn yes(
    section: &mut Section,
    field: &'static str,
    from: KeyFrom,
) -> Result<KeyFrom, SettingsError> {
    if section.boolean(field, false) {
        return Ok(from);
    }
    let rule = "must be true or absent";
    Err(section.error(field, &Json::Flag(false), rule))
}
