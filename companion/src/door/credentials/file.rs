//! A file of tokens → credentials. No error of it shows a token.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Credential, Proof, Role};
use crate::config::raw::{nearest, syntax};
use crate::config::{Secret, TOKEN, is_token};
use crate::files;

/// Why a file of tokens is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyringError {
    /// It could not be read.
    #[error("tokens_file: {path}: {}", files::why(source))]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{place}: {rule}")]
    Invalid {
        /// Where: the file, or the field, and the credential.
        place: String,
        rule: String,
    },
}

/// The credentials of a text; `place` is where it stands.
///
/// # Errors
/// [`KeyringError`].
pub(super) fn parse(place: &str, text: &str) -> Result<Vec<(String, Credential)>, KeyringError> {
    let table: toml::Table = text
        .parse()
        .map_err(|error| invalid(place, syntax(text, &error)))?;
    if table.is_empty() {
        return Err(invalid(place, "must have at least one token"));
    }
    let each = table.iter().map(|(name, value)| {
        let place = format!("{place}: {name}");
        let credential = credential(&place, name, value)?;
        Ok((place, credential))
    });
    each.collect()
}

/// The fields of a credential.
const FIELDS: [&str; 5] = ["token", "certificate", "roles", "services", "datasets"];

fn credential(place: &str, name: &str, value: &toml::Value) -> Result<Credential, KeyringError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
        return Err(invalid(
            place,
            "must have a name of letters, digits and ._-, at most 64",
        ));
    }
    let rule = "must be a table with token or certificate, and roles";
    let table = value.as_table().ok_or_else(|| invalid(place, rule))?;
    if let Some(unknown) = table.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let meant = nearest(unknown, FIELDS.into_iter());
        let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        return Err(invalid(place, format!("{unknown}: unknown field{meant}")));
    }
    let text = |field: &str| match table.get(field) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(invalid(place, format!("{field}: must be a text"))),
        },
    };
    let texts = |field: &str| -> Result<Vec<String>, KeyringError> {
        let Some(value) = table.get(field) else {
            return Ok(Vec::new());
        };
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Option<Vec<String>> = items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect();
        // An empty list would mean "all"; an operator who wants all leaves the list out.
        texts
            .filter(|texts| !texts.is_empty() && !texts.iter().any(String::is_empty))
            .ok_or_else(|| invalid(place, format!("{field}: must be a list of texts")))
    };
    let proof = match (text("token")?, text("certificate")?) {
        (Some(token), None) if is_token(&token) => Proof::Token(Secret::new(token)),
        (Some(_), None) => return Err(invalid(place, format!("token: {TOKEN}"))),
        (None, Some(name)) if !name.is_empty() => Proof::Certificate(name),
        _ => {
            let rule = "must have either token or certificate";
            return Err(invalid(place, rule));
        }
    };
    let roles: Result<BTreeSet<Role>, KeyringError> = texts("roles")?
        .iter()
        .map(|said| {
            let mut names = Role::NAMES.iter();
            let found = names.find(|(name, _)| name == said);
            let all: Vec<&str> = Role::NAMES.iter().map(|(name, _)| *name).collect();
            let rule = || format!("roles: {said:?}: must be some of {}", all.join(", "));
            found
                .map(|(_, role)| *role)
                .ok_or_else(|| invalid(place, rule()))
        })
        .collect();
    let roles = roles?;
    if roles.is_empty() {
        return Err(invalid(place, "must have roles"));
    }
    Ok(Credential {
        name: name.to_owned(),
        proof,
        roles,
        services: texts("services")?,
        datasets: texts("datasets")?,
    })
}

pub(super) fn invalid(place: &str, rule: impl Into<String>) -> KeyringError {
    KeyringError::Invalid {
        place: place.to_owned(),
        rule: rule.into(),
    }
}
