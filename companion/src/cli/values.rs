//! Values of flags: what a text must be, so that a wrong one is refused here, by the flag's name, and not by the
//! companion, which knows only the fields of its API.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use unitring_protocol::ids::InvalidName;
use unitring_protocol::updates::TTL_MS_MAX;

use crate::config::{any_duration, duration_within};
use crate::http::INSTANCE_TTLS;

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.parse();
    address.map_err(|_| "must be an ip:port, such as 10.0.0.7:8080")
}

/// The time to live of a registration, as it was said.
pub(super) fn instance_ttl(text: &str) -> Result<String, String> {
    duration_within(text, INSTANCE_TTLS).map(|_| text.to_owned())
}

/// The time to live of a record, as the command line has it.
pub(super) fn record_ttl(text: &str) -> Result<String, String> {
    let bounds = Duration::from_millis(1)..=Duration::from_millis(TTL_MS_MAX);
    match bounds.contains(&any_duration(text)?) {
        true => Ok(text.to_owned()),
        false => Err("must be from 1ms to ten years".to_owned()),
    }
}

/// A name of the protocol, as it was said.
pub(super) fn name<T: FromStr<Err = InvalidName>>(text: &str) -> Result<String, &'static str> {
    let name: Result<T, InvalidName> = text.parse();
    name.map(|_| text.to_owned()).map_err(|error| error.rule)
}

/// A version of a record. The companion checks whether a record can have it.
pub(super) fn version(text: &str) -> Result<String, &'static str> {
    let is_part_of_a_header = |letter: char| letter.is_ascii_graphic() && !"\",".contains(letter);
    match !text.is_empty() && text.chars().all(is_part_of_a_header) {
        true => Ok(text.to_owned()),
        false => Err("must be a version, as `data put` prints it"),
    }
}

#[cfg(test)]
mod tests {
    use unitring_protocol::ids::{DatasetName, UnitId};

    use super::*;

    #[test]
    fn what_the_api_would_refuse_is_refused_by_the_flag() {
        assert_eq!(instance_ttl("30s").as_deref(), Ok("30s"));
        for (text, rule) in [
            ("3x", "must be a number with ms, s, m or h, such as 15m"),
            ("", "must be a number with ms, s, m or h, such as 15m"),
            ("1ms", "must be from 500ms to 24h"),
            ("25h", "must be from 500ms to 24h"),
        ] {
            assert_eq!(instance_ttl(text), Err(rule.to_owned()), "{text}");
        }
        assert_eq!(record_ttl("1ms").as_deref(), Ok("1ms"));
        assert!(record_ttl("0s").is_err() && record_ttl("99999999h").is_err());
        assert!(address("nope").is_err() && address("10.0.0.1").is_err());
        assert!(name::<UnitId>("a b").is_err() && name::<DatasetName>("").is_err());
        assert!(version("1.2@east").is_ok());
        for text in ["", "a b", "a\"b", "a,b", "é"] {
            assert!(version(text).is_err(), "{text}");
        }
    }
}
