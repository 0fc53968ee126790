//! Reading of JSON without a promised form: a value that is absent or of another type counts as nothing.

use serde_json::Value;

/// A field of fields, `load_assignment.policy`; nothing if one is missing.
pub(super) fn at<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    let found = path
        .split('.')
        .try_fold(json, |json, field| json.get(field));
    found.filter(|value| !value.is_null())
}

/// The text there.
pub(super) fn text<'a>(json: &'a Value, path: &str) -> Option<&'a str> {
    at(json, path).and_then(Value::as_str)
}

/// The whole number there, also as text, which Envoy takes, too.
pub(super) fn number(json: &Value, path: &str) -> Option<u64> {
    let value = at(json, path)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Whether `true` is there.
pub(super) fn is_true(json: &Value, path: &str) -> bool {
    at(json, path) == Some(&Value::Bool(true))
}

/// The list there; nothing is an empty one.
pub(super) fn list<'a>(json: &'a Value, path: &str) -> &'a [Value] {
    let found = at(json, path).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

/// The texts of a list.
pub(super) fn texts<'a>(json: &'a Value, path: &str) -> Vec<&'a str> {
    list(json, path).iter().filter_map(Value::as_str).collect()
}

/// The last part of the name of a message's type.
pub(super) fn kind(json: &Value) -> &str {
    let name = text(json, "@type").or_else(|| text(json, "type_url"));
    let name = name.unwrap_or_default();
    name.rsplit(['.', '/']).next().unwrap_or_default()
}

/// The same with fields in Envoy's own spelling: Envoy takes `connectTimeout` for `connect_timeout`. What is inside
/// of a `Struct` is not Envoy's.
pub(super) fn with_envoys_names(json: Value) -> Value {
    match json {
        Value::Object(fields) => {
            let is_own = fields
                .get("@type")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.ends_with("Struct"));
            if is_own {
                return Value::Object(fields);
            }
            let named = |(name, value)| (envoys_name(name), with_envoys_names(value));
            Value::Object(fields.into_iter().map(named).collect())
        }
        Value::Array(items) => items.into_iter().map(with_envoys_names).collect(),
        plain => plain,
    }
}

fn envoys_name(name: String) -> String {
    let is_camel = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|char| char.is_ascii_alphanumeric())
        && name.contains(|char: char| char.is_ascii_uppercase());
    if !is_camel {
        return name;
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for char in name.chars() {
        if char.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}
