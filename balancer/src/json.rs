//! JSON text → a tree of the fields that the caller wants. The reader skips other fields, which
//! cost no memory.
//!
//! One reader serves the settings and every answer that the filter gets: `#[derive(Deserialize)]`
//! would generate a reader for each struct, and these would be most of the filter.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::ser::{Serialize, Serializer};

/// Why a text is not what the caller expects.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The text is no JSON.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// Another value is where an object should be.
    #[error("expected an object")]
    NoObject,
    /// A required field is absent.
    #[error("missing field `{0}`")]
    Missing(&'static str),
    /// A field has a value of the wrong type or out of range.
    #[error("invalid field `{0}`")]
    Invalid(&'static str),
}

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`, which counts as absent.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number that is not negative.
    Number(u64),
    /// A negative whole number.
    Negative(i64),
    /// Any other number: one with a fraction or an exponent, or too large.
    Double(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(Fields),
}

/// The fields of an object in their order, each name once.
pub type Fields = Vec<(Cow<'static, str>, Json)>;

/// Reads a whole text. `wanted` has the names of the fields to keep, of objects at any depth.
pub fn read(text: &[u8], wanted: &'static [&'static str]) -> Result<Json, JsonError> {
    read_with(text, Wanted(Some(wanted)))
}

/// Reads a whole text and keeps every field.
pub fn read_all(text: &[u8]) -> Result<Json, JsonError> {
    read_with(text, Wanted(None))
}

fn read_with(text: &[u8], wanted: Wanted) -> Result<Json, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let json = wanted.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(json)
}

/// Sets a field. If a name occurs twice, the last value counts.
pub fn set(fields: &mut Fields, name: Cow<'static, str>, value: Json) {
    match fields.iter_mut().find(|(field, _)| *field == name) {
        Some((_, old)) => *old = value,
        None => fields.push((name, value)),
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::Text(text.to_owned())
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Json::Number(number)
    }
}

impl From<usize> for Json {
    fn from(number: usize) -> Self {
        Json::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Flag(flag) => serializer.serialize_bool(*flag),
            Json::Number(number) => serializer.serialize_u64(*number),
            Json::Negative(number) => serializer.serialize_i64(*number),
            Json::Double(number) => serializer.serialize_f64(*number),
            Json::Text(text) => serializer.serialize_str(text),
            Json::List(list) => serializer.collect_seq(list),
            Json::Object(fields) => serializer.collect_map(fields.iter().map(|(n, v)| (n, v))),
        }
    }
}

/// Compact JSON text.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Access to the fields of an object. An absent field is `None` or `false`.
///
/// # Errors
/// If the value is not an object, or the field has another type.
impl Json {
    /// A field of any type.
    pub fn field(&self, name: &'static str) -> Result<Option<&Json>, JsonError> {
        let Json::Object(fields) = self else {
            return Err(JsonError::NoObject);
        };
        let mut fields = fields.iter().filter(|(_, value)| *value != Json::Null);
        Ok(fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value))
    }

    /// A string.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, JsonError> {
        match self.field(name)? {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(JsonError::Invalid(name)),
        }
    }

    /// A whole number in the range of `T`.
    pub fn number<T: TryFrom<u64>>(&self, name: &'static str) -> Result<Option<T>, JsonError> {
        match self.field(name)? {
            None => Ok(None),
            Some(Json::Number(number)) => T::try_from(*number)
                .map(Some)
                .map_err(|_| JsonError::Invalid(name)),
            Some(_) => Err(JsonError::Invalid(name)),
        }
    }

    /// A flag; an absent one is `false`.
    pub fn flag(&self, name: &'static str) -> Result<bool, JsonError> {
        match self.field(name)? {
            None => Ok(false),
            Some(Json::Flag(flag)) => Ok(*flag),
            Some(_) => Err(JsonError::Invalid(name)),
        }
    }

    /// A list.
    pub fn list(&self, name: &'static str) -> Result<Option<&[Json]>, JsonError> {
        match self.field(name)? {
            None => Ok(None),
            Some(Json::List(list)) => Ok(Some(list)),
            Some(_) => Err(JsonError::Invalid(name)),
        }
    }
}

#[derive(Clone, Copy)]
struct Wanted(Option<&'static [&'static str]>);

impl<'de> DeserializeSeed<'de> for Wanted {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Wanted {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Negative(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Double(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key_seed(Name(self))? {
            match name {
                Some(name) => set(&mut fields, name, map.next_value_seed(self)?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Json::Object(fields))
    }
}

/// Reads a field's name; `None` if the field is not wanted.
struct Name(Wanted);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<Cow<'static, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        let Some(wanted) = self.0.0 else {
            return Ok(Some(Cow::Owned(name.into_owned())));
        };
        let wanted = wanted.iter().find(|wanted| **wanted == name);
        Ok(wanted.map(|wanted| Cow::Borrowed(*wanted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WANTED: [&str; 3] = ["a", "b", "c"];

    #[test]
    fn wanted_fields_are_read_at_any_depth_and_others_skipped() {
        let text =
            br#"{"a": [{"b": 7, "x": {"a": 1}}, {}], "y": [1.5, "z"], "c": "q\n", "b": null}"#;
        let json = read(text, &WANTED).unwrap();
        let list = json.list("a").unwrap().unwrap();
        assert_eq!(list[0].number::<u8>("b").unwrap(), Some(7));
        assert_eq!(list[0], Json::Object(vec![("b".into(), Json::Number(7))]));
        assert_eq!(list[1].number::<u8>("b").unwrap(), None);
        assert_eq!(json.text("c").unwrap(), Some("q\n"));
        assert_eq!(json.field("b").unwrap(), None, "null counts as absent");
    }

    #[test]
    fn a_field_of_another_type_is_an_error_that_names_it() {
        let json = read(br#"{"a": -1, "b": 256, "c": {}}"#, &WANTED).unwrap();
        let error = json.number::<u64>("a").unwrap_err();
        assert_eq!(error.to_string(), "invalid field `a`");
        assert!(json.number::<u8>("b").is_err() && json.number::<u16>("b").is_ok());
        assert!(json.flag("b").is_err() && json.list("b").is_err());
        assert!(json.text("c").is_err());
        assert!(Json::Null.flag("a").is_err(), "not an object");
    }

    #[test]
    fn what_is_not_json_to_its_end_is_an_error() {
        for bad in ["", "{", "{} {}", "nope", "{\"x\": [1, ]}", "{1: 2}"] {
            assert!(read(bad.as_bytes(), &WANTED).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes(), &WANTED).is_err());
    }

    #[test]
    fn a_tree_is_written_as_it_was_read() {
        let text = r#"{"a":[null,true,18446744073709551615,-1,1.5,{}],"b":"\"\n\u0001é"}"#;
        assert_eq!(read_all(text.as_bytes()).unwrap().to_string(), text);
        let twice = read_all(br#"{"a": 1, "b": 2, "a": 3}"#).unwrap();
        assert_eq!(twice.to_string(), r#"{"a":3,"b":2}"#, "the last one counts");
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            drop(read(&bytes, &WANTED));
        }
    }
}
