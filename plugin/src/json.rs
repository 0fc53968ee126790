//! JSON text → a tree of those fields that somebody wants; the rest is skipped and costs no memory.
//!
//! One reader for every answer that the filter gets: `#[derive(Deserialize)]` would be a reader for
//! each struct, of which the filter would consist for the most part.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize as _, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::Error;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json<'a> {
    /// `null`, which counts as absent.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number that is not negative.
    Number(u64),
    /// Any other number: none is ever wanted.
    OtherNumber,
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Json<'a>>),
    /// The wanted fields of an object, as they come.
    Object(Vec<(&'static str, Json<'a>)>),
}

/// Reads a whole text; `wanted` are the names of fields, of objects at any depth.
///
/// # Errors
/// If it is not JSON.
pub fn read<'a>(text: &'a [u8], wanted: &'static [&'static str]) -> Result<Json<'a>, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let json = Wanted(wanted).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(json)
}

/// Fields of an object; absent ones are `None`, or empty.
///
/// # Errors
/// If it is not an object, or the field is there and of another type.
impl<'a> Json<'a> {
    /// An object, or whatever it is.
    pub fn field(&self, name: &str) -> Result<Option<&Json<'a>>, Error> {
        let Json::Object(fields) = self else {
            return Err(Error::custom("expected an object"));
        };
        let mut fields = fields.iter().filter(|(_, value)| *value != Json::Null);
        Ok(fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value))
    }

    /// A string.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.field(name)? {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(name)),
        }
    }

    /// A whole number in the range of its type.
    pub fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<Option<T>, Error> {
        match self.field(name)? {
            None => Ok(None),
            Some(Json::Number(number)) => T::try_from(*number).map(Some).map_err(|_| invalid(name)),
            Some(_) => Err(invalid(name)),
        }
    }

    /// A flag that is off where it is absent.
    pub fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.field(name)? {
            None => Ok(false),
            Some(Json::Flag(flag)) => Ok(*flag),
            Some(_) => Err(invalid(name)),
        }
    }

    /// A list.
    pub fn list(&self, name: &str) -> Result<Option<&[Json<'a>]>, Error> {
        match self.field(name)? {
            None => Ok(None),
            Some(Json::List(list)) => Ok(Some(list)),
            Some(_) => Err(invalid(name)),
        }
    }
}

/// The error of a field that must be there, and is not.
pub fn missing(name: &str) -> Error {
    Error::custom(format_args!("missing field `{name}`"))
}

/// The error of a field that is there, and means nothing.
pub fn invalid(name: &str) -> Error {
    Error::custom(format_args!("invalid field `{name}`"))
}

#[derive(Clone, Copy)]
struct Wanted(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Wanted {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Wanted {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json<'de>, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json<'de>, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key_seed(Name(self))? {
            match name {
                Some(name) => fields.push((name, map.next_value_seed(self)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Json::Object(fields))
    }
}

/// A field's name, if it is wanted.
struct Name(Wanted);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Ok(self.0.0.iter().find(|wanted| **wanted == name).copied())
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
        assert_eq!(list[0], Json::Object(vec![("b", Json::Number(7))]));
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

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            drop(read(&bytes, &WANTED));
        }
    }
}
