//! The bytes that Envoy hands over → JSON.
//!
//! A `google.protobuf.StringValue` arrives as its text. A `google.protobuf.Struct` arrives in its
//! protobuf encoding (Envoy 1.40), although Envoy's documentation says JSON. The two cannot be
//! confused: a non-empty encoded Struct begins with a line feed, and what follows is never JSON.

use std::borrow::Cow;

use super::protobuf::{Payload, take_field};
use super::reader::SettingsError;
use crate::json::{self, Fields, Json};

/// No settings are nested deeper; the limit keeps hostile settings from using up the stack.
const DEPTH_MAX: usize = 16;

/// Reads settings of either encoding.
pub(super) fn read(bytes: &[u8]) -> Result<Json, SettingsError> {
    json::read_all(bytes).or_else(|error| {
        object(bytes, DEPTH_MAX).ok_or_else(|| {
            let text = Json::Text(String::from_utf8_lossy(bytes).into_owned());
            let rule = format!("must be JSON or a google.protobuf.Struct: {error}");
            SettingsError::new("(settings)", &text, rule)
        })
    })
}

/// A `Struct`: a map, encoded as a list of entries with a key and a value.
fn object(mut message: &[u8], depth: usize) -> Option<Json> {
    let mut fields = Fields::new();
    while !message.is_empty() {
        let (1, Payload::Bytes(mut entry)) = take_field(&mut message)? else {
            continue;
        };
        let (mut name, mut value) = ("", Json::Null);
        while !entry.is_empty() {
            match take_field(&mut entry)? {
                (1, Payload::Bytes(bytes)) => name = str::from_utf8(bytes).ok()?,
                (2, Payload::Bytes(bytes)) => value = self::value(bytes, depth)?,
                _ => {}
            }
        }
        json::set(&mut fields, Cow::Owned(name.to_owned()), value);
    }
    Some(Json::Object(fields))
}

/// A `Value`: one of six kinds, told apart by the field number.
fn value(mut message: &[u8], depth: usize) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    let mut value = Json::Null;
    while !message.is_empty() {
        value = match take_field(&mut message)? {
            (1, Payload::Number(_)) => Json::Null,
            (2, Payload::Fixed(bits)) => {
                let number = f64::from_bits(bits);
                number.is_finite().then_some(Json::Double(number))?
            }
            (3, Payload::Bytes(text)) => str::from_utf8(text).ok()?.into(),
            (4, Payload::Number(number)) => Json::Flag(number != 0),
            (5, Payload::Bytes(fields)) => object(fields, depth)?,
            (6, Payload::Bytes(values)) => list(values, depth)?,
            _ => continue,
        };
    }
    Some(value)
}

/// A `ListValue`.
fn list(mut message: &[u8], depth: usize) -> Option<Json> {
    let mut values = Vec::new();
    while !message.is_empty() {
        if let (1, Payload::Bytes(bytes)) = take_field(&mut message)? {
            values.push(value(bytes, depth)?);
        }
    }
    Some(Json::List(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;
    use prost_types::value::Kind;

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
        let text = r#"{"load":{"balance_factor":125.0},"service":"orders"}"#;
        assert_eq!(read(&settings.encode_to_vec()).unwrap().to_string(), text);
        assert_eq!(read(text.as_bytes()).unwrap().to_string(), text);
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

    /// The same value as prost reads it.
    fn expected(value: prost_types::Value) -> Json {
        match value.kind {
            None | Some(Kind::NullValue(_)) => Json::Null,
            Some(Kind::BoolValue(flag)) => Json::Flag(flag),
            Some(Kind::NumberValue(number)) => Json::Double(number),
            Some(Kind::StringValue(text)) => Json::Text(text),
            Some(Kind::ListValue(list)) => {
                Json::List(list.values.into_iter().map(expected).collect())
            }
            Some(Kind::StructValue(object)) => {
                let fields = object.fields.into_iter();
                Json::Object(fields.map(|(n, v)| (n.into(), expected(v))).collect())
            }
        }
    }

    fn any_value() -> impl Strategy<Value = prost_types::Value> {
        let leaf = prop_oneof![
            Just(Kind::NullValue(0)),
            any::<bool>().prop_map(Kind::BoolValue),
            prop::num::f64::NORMAL.prop_map(Kind::NumberValue),
            ".{0,8}".prop_map(Kind::StringValue),
        ];
        let value = |kind| prost_types::Value { kind: Some(kind) };
        leaf.prop_map(value).prop_recursive(4, 32, 4, move |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4);
            let list = list.prop_map(|values| Kind::ListValue(prost_types::ListValue { values }));
            let fields = prop::collection::btree_map(".{0,8}", inner, 0..4);
            let fields =
                fields.prop_map(|fields| Kind::StructValue(prost_types::Struct { fields }));
            prop_oneof![list, fields].prop_map(value)
        })
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_read_as_prost_reads_it(value in any_value()) {
            let written = one("a", value.clone()).encode_to_vec();
            let read = object(&written, DEPTH_MAX).unwrap();
            prop_assert_eq!(read, Json::Object(vec![("a".into(), expected(value))]));
        }

        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            drop(read(&bytes));
        }
    }
}
