//! A record, its version, and an op: one change of a record on its way to the other units.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{DatasetName, RecordKey, UnitId};
use crate::trace::TraceParent;

/// The largest value of a record, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// A hybrid logical clock: wall time that never runs backwards, and a counter within one
/// millisecond (Kulkarni et al., "Logical Physical Clocks", 2014).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Clock {
    /// Milliseconds since the Unix epoch.
    pub ms: u64,
    /// Orders changes in the same millisecond.
    pub counter: u32,
}

/// Orders two changes of a record: the later clock wins, then the greater unit.
///
/// Written `<ms>.<counter>@<unit>`, as in an ETag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// When the change was made.
    pub clock: Clock,
    /// The unit that made the change.
    pub unit: UnitId,
}

/// Why a string is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {0:?}: must be <ms>.<counter>@<unit>")]
pub struct InvalidVersion(pub String);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.clock.ms, self.clock.counter, self.unit)
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let parse = || {
            let (clock, unit) = text.split_once('@')?;
            let (ms, counter) = clock.split_once('.')?;
            let clock = Clock {
                ms: ms.parse().ok()?,
                counter: counter.parse().ok()?,
            };
            Some(Version {
                clock,
                unit: unit.parse().ok()?,
            })
        };
        parse().ok_or_else(|| InvalidVersion(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;
    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

/// A record's value: bytes, encoded as base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Value(pub Vec<u8>);

/// Why a text is not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// It is not base64.
    #[error("value: must be base64: {0}")]
    NotBase64(base64::DecodeError),
    /// It has more than [`VALUE_BYTES_MAX`] bytes.
    #[error("value: must be at most 1 MiB")]
    TooLarge,
}

impl Value {
    /// Decodes a value from base64.
    ///
    /// # Errors
    /// [`InvalidValue`].
    pub fn from_base64(text: &str) -> Result<Self, InvalidValue> {
        let bytes = BASE64.decode(text).map_err(InvalidValue::NotBase64)?;
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(InvalidValue::TooLarge);
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(serde::de::Error::custom)
    }
}

/// A record's dataset and key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// The dataset of the record.
    pub dataset: DatasetName,
    /// The key of the record in its dataset.
    pub key: RecordKey,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.dataset, self.key)
    }
}

/// The last change of a record, as a store holds it and a peer receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RecordFields")]
pub struct Record {
    /// The record.
    #[serde(flatten)]
    pub id: RecordId,
    /// When and where the record was changed.
    #[serde(rename = "at")]
    pub version: Version,
    /// The new value. `None` for a deleted record, which stays as a tombstone, and for an expired
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// When the record expires, in ms since the Unix epoch: the same time in every unit.
    #[serde(rename = "expires", skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

impl Record {
    /// Whether the record was deleted. An expired record was not: it has an expiry.
    pub fn is_deleted(&self) -> bool {
        self.value.is_none() && self.expires_ms.is_none()
    }

    /// The value, unless the record is deleted or expired at `now_ms`.
    pub fn live(&self, now_ms: u64) -> Option<&Value> {
        let has_expired = self
            .expires_ms
            .is_some_and(|expires_ms| expires_ms <= now_ms);
        self.value.as_ref().filter(|_| !has_expired)
    }
}

/// One change of a record, as its unit recorded it for the other units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OpFields")]
pub struct Op {
    /// Its number among the ops of its unit for this bucket: 1, 2, 3 … without a gap.
    pub sequence: u64,
    /// The change.
    #[serde(flatten)]
    pub record: Record,
    /// The version that this change replaced in its unit. A unit that has a later version than
    /// this, and not this op's own, sees two changes that did not know of each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<Version>,
    /// The span that made or sent this change, if it is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

/// The fields of a record, as they are read. A flattened struct would keep every unknown field in memory, whatever its
/// size, before it leaves it out.
#[derive(Deserialize)]
struct RecordFields {
    dataset: DatasetName,
    key: RecordKey,
    #[serde(rename = "at")]
    version: Version,
    #[serde(default)]
    value: Option<Value>,
    #[serde(rename = "expires", default)]
    expires_ms: Option<u64>,
}

impl From<RecordFields> for Record {
    fn from(fields: RecordFields) -> Self {
        Self {
            id: RecordId {
                dataset: fields.dataset,
                key: fields.key,
            },
            version: fields.version,
            value: fields.value,
            expires_ms: fields.expires_ms,
        }
    }
}

/// The same of an op.
#[derive(Deserialize)]
struct OpFields {
    sequence: u64,
    dataset: DatasetName,
    key: RecordKey,
    #[serde(rename = "at")]
    version: Version,
    #[serde(default)]
    value: Option<Value>,
    #[serde(rename = "expires", default)]
    expires_ms: Option<u64>,
    #[serde(default)]
    over: Option<Version>,
    #[serde(default, deserialize_with = "TraceParent::if_valid")]
    trace: Option<TraceParent>,
}

impl From<OpFields> for Op {
    fn from(fields: OpFields) -> Self {
        Self {
            sequence: fields.sequence,
            record: Record {
                id: RecordId {
                    dataset: fields.dataset,
                    key: fields.key,
                },
                version: fields.version,
                value: fields.value,
                expires_ms: fields.expires_ms,
            },
            over: fields.over,
            trace: fields.trace,
        }
    }
}

/// How far the ops of one unit for one bucket are known: all ops up to this one.
///
/// A store that starts anew starts a later incarnation, so that its first ops are not taken for ops
/// that the peers already have. Written `<incarnation>.<sequence>`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    /// When the bucket was created at its unit, in ms since the Unix epoch.
    pub incarnation: u64,
    /// The sequence of the last known op.
    pub sequence: u64,
}

/// Why a string is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("position {0:?}: must be <incarnation>.<sequence>")]
pub struct InvalidPosition(pub String);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.sequence)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let parts = text.split_once('.');
        let parsed = parts.and_then(|(incarnation, sequence)| {
            Some(Self {
                incarnation: incarnation.parse().ok()?,
                sequence: sequence.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| InvalidPosition(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for Position {
    type Error = InvalidPosition;
    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> String {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(ms: u64, counter: u32, unit: &str) -> Version {
        Version {
            clock: Clock { ms, counter },
            unit: unit.parse().unwrap(),
        }
    }

    #[test]
    fn the_later_clock_wins_and_the_unit_breaks_a_tie() {
        assert!(version(2, 0, "a") > version(1, 9, "z"));
        assert!(version(1, 10, "a") > version(1, 9, "z"));
        assert!(version(1, 1, "b") > version(1, 1, "a"));
    }

    #[test]
    fn an_op_is_read_whatever_its_trace_is() {
        let op = |trace: &str| {
            let text = format!(
                r#"{{"sequence":1,"dataset":"d","key":"k","at":"5.0@west","value":"dg=="{trace}}}"#
            );
            serde_json::from_str::<Op>(&text).unwrap()
        };
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = op(&format!(r#","trace":"{parent}""#));
        assert_eq!(traced.trace, Some(parent.parse().unwrap()));
        let again: Op = serde_json::from_str(&serde_json::to_string(&traced).unwrap()).unwrap();
        assert_eq!(again, traced);
        for other in [
            r#","trace":"?""#,
            r#","trace":7"#,
            r#","trace":{"a":[1]}"#,
            "",
        ] {
            assert_eq!(op(other).trace, None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_version_reads_back_as_written(ms: u64, counter: u32, unit in "[a-z0-9._-]{1,64}") {
            let written = version(ms, counter, &unit);
            prop_assert_eq!(written.to_string().parse::<Version>().unwrap(), written);
        }

        #[test]
        fn decoding_a_version_never_panics(text in ".{0,80}") {
            drop(text.parse::<Version>());
        }

        #[test]
        fn a_value_of_any_bytes_survives_json(bytes: Vec<u8>) {
            let json = serde_json::to_string(&Value(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&json).unwrap().0, bytes);
        }
    }
}
