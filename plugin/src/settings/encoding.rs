//! The bytes that Envoy hands over → JSON.
//!
//! A `google.protobuf.StringValue` arrives as its text. A `google.protobuf.Struct` arrives as its
//! protobuf encoding (Envoy 1.40), whatever its documentation says of JSON. The two cannot be
//! confused: the first byte of an encoded Struct that is not empty is a line feed, and what follows
//! is never JSON.

use prost::Message as _;
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

use super::reader::SettingsError;

/// Deeper settings do not exist; the limit keeps a hostile one from using up the stack.
const DEPTH_MAX: usize = 16;

/// Reads settings of either encoding.
pub(super) fn read(bytes: &[u8]) -> Result<Value, SettingsError> {
    serde_json::from_slice(bytes).or_else(|error| {
        let decoded = prost_types::Struct::decode(bytes).ok();
        decoded
            .and_then(|fields| object(fields, DEPTH_MAX))
            .ok_or_else(|| {
                let text = Value::String(String::from_utf8_lossy(bytes).into_owned());
                let rule = format!("must be JSON or a google.protobuf.Struct: {error}");
                SettingsError::new("(settings)", &text, rule)
            })
    })
}

fn object(fields: prost_types::Struct, depth: usize) -> Option<Value> {
    let fields = fields
        .fields
        .into_iter()
        .map(|(name, field)| Some((name, value(field, depth)?)));
    fields.collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn value(value: prost_types::Value, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => Value::Number(Number::from_f64(number)?),
        Some(Kind::StructValue(fields)) => object(fields, depth)?,
        Some(Kind::ListValue(list)) => {
            let values = list.values.into_iter().map(|item| self::value(item, depth));
            Value::Array(values.collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> prost_types::Value {
        prost_types::Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        }
    }

    fn one(name: &str, value: prost_types::Value) -> prost_types::Struct {
        prost_types::Struct {
            fields: [(name.to_owned(), value)].into(),
        }
    }

    #[test]
    fn a_struct_reads_as_the_json_that_it_means() {
        let number = prost_types::Value {
            kind: Some(Kind::NumberValue(125.0)),
        };
        let load = one("balance_factor", number);
        let mut settings = one("service", text("orders"));
        let load = prost_types::Value {
            kind: Some(Kind::StructValue(load)),
        };
        settings.fields.insert("load".to_owned(), load);
        let expected = serde_json::json!({"service": "orders", "load": {"balance_factor": 125.0}});
        assert_eq!(read(&settings.encode_to_vec()).unwrap(), expected);
        assert_eq!(read(expected.to_string().as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_struct_that_is_too_deep_is_refused() {
        let mut value = text("end");
        for _ in 0..DEPTH_MAX {
            value = prost_types::Value {
                kind: Some(Kind::StructValue(one("a", value))),
            };
        }
        let error = read(&one("a", value).encode_to_vec()).unwrap_err();
        assert!(
            error
                .rule
                .starts_with("must be JSON or a google.protobuf.Struct"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            drop(read(&bytes));
        }
    }
}
