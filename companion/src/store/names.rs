//! A service's name, which Envoy chooses, as a part of a key.
//!
//! Invariant: letters, digits, `.`, `_` and `-` stay, every other byte is `%XX`. So a plain name is
//! its own key, no two names share one, and an encoded name contains neither the `/` that ends it
//! nor the braces of a hash tag.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use unitring_protocol::ids::ServiceName;

use super::StoreError;

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// Encodes the name as a part of a key.
pub(super) fn encoded(service: &ServiceName) -> impl fmt::Display + '_ {
    utf8_percent_encode(service.as_str(), ENCODED)
}

/// `<service>/<rest>`, the key of something that belongs to a service.
pub(super) fn within(service: &ServiceName, rest: impl fmt::Display) -> String {
    format!("{}/{rest}", encoded(service))
}

/// Splits such a key into the service and the rest.
///
/// # Errors [`StoreError::Corrupt`] if it is no such key.
pub(super) fn split(key: &str) -> Result<(ServiceName, &str), StoreError> {
    let corrupt = || StoreError::Corrupt(format!("{key:?}"));
    let (service, rest) = key.split_once('/').ok_or_else(corrupt)?;
    let name = percent_decode_str(service).decode_utf8();
    let name = name.map_err(|_| corrupt())?.parse();
    let name: ServiceName = name.map_err(|_| corrupt())?;
    // Two encodings of one name would be two entries that look alike.
    if encoded(&name).to_string() != service {
        return Err(corrupt());
    }
    Ok((name, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_name_is_its_own_key_and_others_are_encoded() {
        for (name, key) in [
            ("orders", "orders/a/b"),
            ("a.b_c-9", "a.b_c-9/a/b"),
            ("httproute/default/0", "httproute%2Fdefault%2F0/a/b"),
            ("outbound|80||a.b", "outbound%7C80%7C%7Ca.b/a/b"),
            ("a b {é}:%", "a%20b%20%7B%C3%A9%7D%3A%25/a/b"),
        ] {
            let service = name.parse().unwrap();
            assert_eq!(within(&service, "a/b"), key);
            assert_eq!(split(key).unwrap(), (service, "a/b"));
        }
    }

    #[test]
    fn what_no_name_is_encoded_as_is_corrupt() {
        for key in [
            "", "orders", "/a", "%2", "a%2fb/c", "%41/a", "%FF/a", "a b/c", "%0A/a",
        ] {
            assert!(matches!(split(key), Err(StoreError::Corrupt(_))), "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_back_from_its_key_and_leaves_no_brace_in_it(
            name in "\\PC{1,60}", rest in "[!-~]{1,40}",
        ) {
            let Ok(service) = name.parse::<ServiceName>() else { return Ok(()) };
            let key = within(&service, &rest);
            prop_assert_eq!(split(&key).unwrap(), (service.clone(), rest.as_str()));
            let encoded = encoded(&service).to_string();
            let is_safe = !encoded.contains(['{', '}', ':', '/', ' ']);
            prop_assert!(is_safe, "{}", encoded);
        }
    }
}
