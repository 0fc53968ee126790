//! Names, checked once when they are made or decoded.
//!
//! Each name is a string with a bound on its length and its characters. All but a service's name,
//! which Envoy's configuration chooses, can be used unescaped in a Redis key, a routing key or a
//! log line.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?}: {rule}")]
pub struct InvalidName {
    /// The kind of name.
    pub kind: &'static str,
    /// The refused string, cut to 64 characters.
    pub value: String,
    /// The rule it broke.
    pub rule: &'static str,
}

/// Letters, digits and `._-`: safe in names of stats, Redis keys and routing keys.
fn is_plain(value: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&value.len())
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Visible ASCII without the comma, which separates candidates in a header.
fn is_visible(value: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

/// Any text without control characters.
fn is_text(value: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&value.len()) && !value.chars().any(char::is_control)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident, $max:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The longest name, in bytes.
            pub const BYTES_MAX: usize = $max;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                if $check(&value, $max) {
                    return Ok(Self(value));
                }
                Err(InvalidName {
                    kind: $kind,
                    value: value.chars().take(64).collect(),
                    rule: $rule,
                })
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::try_from(value.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A service: the name of the Envoy cluster whose requests are balanced.
    /// Like Envoy, this crate accepts any text. Code that derives a stat's name, a store's key or an
    /// API's path from it encodes the text there.
    ServiceName, "service", is_text, 512,
    "must be 1 to 512 bytes of text without control characters"
);
name!(
    /// One instance of a service: its address, or the stable id it registered with.
    InstanceId, "instance", is_visible, 255,
    "must be 1 to 255 visible ASCII characters without ','"
);
name!(
    /// One Envoy process that reports. A restarted Envoy is a new reporter.
    ReporterId, "reporter", is_visible, 255,
    "must be 1 to 255 visible ASCII characters without ','"
);
name!(
    /// A cell, site or region that can serve alone.
    UnitId, "unit", is_plain, 64,
    "must be 1 to 64 letters, digits, '.', '_' or '-'"
);
name!(
    /// A named set of records.
    DatasetName, "dataset", is_plain, 64,
    "must be 1 to 64 letters, digits, '.', '_' or '-'"
);
name!(
    /// The key of a record within its dataset; it may contain `/`.
    RecordKey, "key", is_text, 512,
    "must be 1 to 512 bytes of text without control characters"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_break_a_redis_key_or_a_header_is_refused() {
        for bad in ["", "a b", "a{b}", "a/b", "é", "a:b", &"x".repeat(65)] {
            assert!(bad.parse::<DatasetName>().is_err(), "{bad:?}");
        }
        for bad in ["", "10.0.0.1:80,10.0.0.2:80", "a b", "a\n"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
        assert!("users/42/cart é".parse::<RecordKey>().is_ok());
        assert!("a\0b".parse::<RecordKey>().is_err());
    }

    #[test]
    fn any_name_that_envoy_takes_for_a_cluster_is_a_service() {
        for name in [
            "orders",
            "outbound|8080||orders.default.svc.cluster.local",
            "httproute/default/orders/rule/0",
            "default/kuard/80/da39a3ee5e",
            "two words {é}",
        ] {
            assert_eq!(name.parse::<ServiceName>().unwrap().as_str(), name);
        }
        for bad in ["", "a\nb", &"x".repeat(513)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn decoding_checks_the_name_and_says_the_rule() {
        let error = serde_json::from_str::<UnitId>("\"no spaces\"")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("unit \"no spaces\": must be 1 to 64"),
            "{error}"
        );
    }
}
