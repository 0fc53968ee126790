//! Why a body or a query is not valid, in words of the API: serde and the parsers of the standard library
//! name types of this program.
//!
//! Invariant: a text that comes from neither stays as it is. Rules of our own types, which serde passes on, are such
//! texts.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::config::raw::nearest;

/// Parses an object of JSON.
///
/// # Errors
/// The field and its rule.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    // serde takes a list for an object: its items for the fields, in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err("must be an object".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Eof | Category::Io => "must be JSON: it ends too early".to_owned(),
        Category::Syntax => {
            let line = match error.line() {
                1 => String::new(),
                line => format!("line {line}, "),
            };
            format!("must be JSON: wrong at {line}column {}", error.column())
        }
        Category::Data => wrong_field::<T>(bytes, &error),
    })
}

/// Parses once more for the field's name. Only wrong input pays for that.
fn wrong_field<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> String {
    let mut again = serde_json::Deserializer::from_slice(bytes);
    let named: Result<T, _> = serde_path_to_error::deserialize(&mut again);
    let path = named.err().map(|error| error.path().to_string());
    let path = path.filter(|path| path != ".").unwrap_or_default();
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    rule(&path, text.strip_suffix(&place).unwrap_or(&text))
}

/// The fault in axum's error for a query, such as `limit: invalid digit found in string`.
pub(super) fn of_query(text: &str) -> String {
    let (field, fault) = match text.find("unknown field `") {
        Some(at) => text.split_at(at),
        None => text.split_once(": ").unwrap_or(("", text)),
    };
    rule(field.trim_end_matches(": "), fault)
}

/// The field and its fault.
fn rule(field: &str, fault: &str) -> String {
    let mut quoted = fault.split('`').skip(1).step_by(2);
    let names_field = |what: &str| fault.strip_prefix(what).and_then(|_| quoted.clone().next());
    if let Some(name) = names_field("missing field `") {
        return format!("{}: is missing", below(field, name));
    }
    if let Some(name) = names_field("duplicate field `") {
        return format!("{}: is given twice", below(field, name));
    }
    if let Some(name) = names_field("unknown field `") {
        let meant = nearest(name, quoted.skip(1));
        let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        return format!("{}: unknown field{meant}", below(field, name));
    }
    let rule = if fault.starts_with("unknown variant `") {
        quoted.next();
        let known: Vec<&str> = quoted.collect();
        format!("must be one of {}", known.join(", "))
    } else if let Some(wanted) = wanted(fault) {
        format!("must be {wanted}")
    } else {
        return passed_on(field, fault);
    };
    match field {
        "" => rule,
        field => format!("{field}: {rule}"),
    }
}

/// A field of the object at this path, which may already end with it.
fn below(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path if last(path) == name => path.to_owned(),
        path => format!("{path}.{name}"),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The rule that a value breaks, from the message of serde or of a parser.
fn wanted(fault: &str) -> Option<String> {
    let known = match fault {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "a whole number from 0 on"
        }
        "number too large to fit in target type" => "a smaller number",
        "number too small to fit in target type" => "a greater number",
        "number would be zero for non-zero type" => "at least 1",
        "invalid float literal" | "cannot parse float from empty string" => "a number",
        "provided string was not `true` or `false`" => "true or false",
        _ => {
            let starts = ["invalid type: ", "invalid value: ", "invalid length "];
            let (_, expected) = fault.rsplit_once(", expected ")?;
            let is_known = starts.iter().any(|start| fault.starts_with(start));
            return is_known.then(|| of_type(expected));
        }
    };
    Some(known.to_owned())
}

/// A value of this type in words for the caller.
fn of_type(expected: &str) -> String {
    let whole = |least: u64, most: u64| format!("a whole number from {least} to {most}");
    match expected {
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u64" | "usize" => whole(0, u64::MAX),
        "a nonzero u32" => whole(1, u32::MAX.into()),
        "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "a borrowed string" | "string or map" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        _ if expected == "a map" || expected.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}

/// A text of our own types, which may begin with the name of its field.
fn passed_on(field: &str, fault: &str) -> String {
    let rest = fault.strip_prefix(last(field));
    match rest.filter(|rest| rest.starts_with([' ', ':'])) {
        _ if field.is_empty() => fault.to_owned(),
        Some(rest) => format!("{field}{rest}"),
        None => format!("{field}: {fault}"),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use serde::Deserialize;
    use unitring_protocol::ids::{InstanceId, UnitId};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its form counts")]
    struct Asked {
        unit: UnitId,
        #[serde(default)]
        ttl: Option<String>,
        #[serde(default)]
        weight: Option<NonZeroU32>,
        #[serde(default)]
        drain: bool,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its form counts")]
    struct Part {
        id: InstanceId,
        kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Warm,
        Cold,
    }

    fn fault(text: &str) -> String {
        object::<Asked>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_body_is_refused_by_its_field_and_without_words_of_a_library() {
        let (warm, cold) = (Kind::Warm, Kind::Cold);
        assert_ne!(format!("{warm:?}"), format!("{cold:?}"));
        for (body, error) in [
            ("", "must be JSON: it ends too early"),
            ("{\"unit\": \"a\"", "must be JSON: it ends too early"),
            ("{\"unit\": a}", "must be JSON: wrong at column 10"),
            ("{\n\"unit\": a}", "must be JSON: wrong at line 2, column 9"),
            ("[]", "must be an object"),
            ("5", "must be an object"),
            ("null", "must be an object"),
            ("{}", "unit: is missing"),
            ("{\"unit\": 5}", "unit: must be a text"),
            (
                "{\"unit\": \"a b\"}",
                "unit \"a b\": must be 1 to 64 letters, digits, '.', '_' or '-'",
            ),
            (
                "{\"unit\": \"a\", \"tll\": \"3s\"}",
                "tll: unknown field; did you mean ttl?",
            ),
            ("{\"unit\": \"a\", \"colour\": 1}", "colour: unknown field"),
            (
                "{\"unit\": \"a\", \"weight\": 0}",
                "weight: must be a whole number from 1 to 4294967295",
            ),
            (
                "{\"unit\": \"a\", \"drain\": \"yes\"}",
                "drain: must be true or false",
            ),
            ("{\"unit\": \"a\", \"unit\": \"b\"}", "unit: is given twice"),
            ("{\"unit\": \"a\", \"parts\": 1}", "parts: must be a list"),
            (
                "{\"unit\": \"a\", \"parts\": [[]]}",
                "parts[0]: must be an object",
            ),
            (
                "{\"unit\": \"a\", \"parts\": [{\"kind\": \"warm\"}]}",
                "parts[0].id: is missing",
            ),
            (
                "{\"unit\": \"a\", \"parts\": [{\"id\": \"a\", \"kind\": \"hot\"}]}",
                "parts[0].kind: must be one of warm, cold",
            ),
            (
                "{\"unit\": \"a\", \"parts\": [{\"id\": \"a,b\", \"kind\": \"warm\"}]}",
                "parts[0].id: instance \"a,b\": must be 1 to 255 visible ASCII characters without ','",
            ),
        ] {
            assert_eq!(fault(body), error, "{body}");
        }
    }

    #[test]
    fn a_query_is_refused_by_its_field_and_without_words_of_a_library() {
        for (text, error) in [
            (
                "limit: invalid digit found in string",
                "limit: must be a whole number from 0 on",
            ),
            (
                "limit: number too large to fit in target type",
                "limit: must be a smaller number",
            ),
            (
                "shares: provided string was not `true` or `false`",
                "shares: must be true or false",
            ),
            ("missing field `key`", "key: is missing"),
            ("duplicate field `key`", "key: is given twice"),
            (
                "limt: unknown field `limt`, expected `limit`",
                "limt: unknown field; did you mean limit?",
            ),
            (
                "a: b: unknown field `a: b`, expected one of `key`, `with`",
                "a: b: unknown field",
            ),
            (
                "reporter: reporter \"a,b\": must be visible",
                "reporter \"a,b\": must be visible",
            ),
        ] {
            assert_eq!(of_query(text), error);
        }
    }
}
