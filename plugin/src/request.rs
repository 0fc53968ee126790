//! A request's headers → its hash key, what must be removed, and whether it may update data.
//!
//! Headers are bytes: a value need not be UTF-8. Where a request has no source of the key, there
//! is no hash key, and Envoy's own policy chooses.

use unitring_routing::key::{KeyHash, header_hash};

use crate::settings::KeySource;

/// Headers of this prefix are ours; a client's own are removed.
pub const OWN_PREFIX: &str = "x-unitring-";

/// What the filter needs of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `None` if the request has none of the sources.
    pub hash: Option<u64>,
    /// Headers that the client must not set.
    pub forged: Vec<String>,
    /// Whether a 2xx answer to it counts as a data update.
    pub unsafe_method: bool,
}

impl Request {
    /// Reads the headers as Envoy hands them over: names in lower case, a repeated header repeated.
    pub fn read(headers: &[(String, Vec<u8>)], key: &[KeySource], steer_header: &str) -> Self {
        let ours = |name: &str| name.starts_with(OWN_PREFIX) || name == steer_header;
        let mut forged: Vec<String> = headers
            .iter()
            .filter(|(name, _)| ours(name))
            .map(|(name, _)| name.clone())
            .collect();
        forged.dedup();
        Self {
            hash: hash(headers, key),
            forged,
            unsafe_method: is_unsafe(headers),
        }
    }
}

fn hash(headers: &[(String, Vec<u8>)], key: &[KeySource]) -> Option<u64> {
    let mut hash = KeyHash::default();
    for source in key {
        let mut values: Vec<&[u8]> = headers
            .iter()
            .filter(|(name, _)| *name == source.header)
            .map(|(_, value)| value.as_slice())
            .collect();
        if let Some(new) = header_hash(&mut values) {
            hash = hash.and(new);
        }
        if source.terminal && hash.finish().is_some() {
            break;
        }
    }
    hash.finish()
}

/// Methods that are not safe by RFC 9110, section 9.2.1, and are meant to change data.
fn is_unsafe(headers: &[(String, Vec<u8>)]) -> bool {
    let method = headers.iter().find(|(name, _)| name == ":method");
    method.is_some_and(|(_, method)| {
        matches!(method.as_slice(), b"POST" | b"PUT" | b"PATCH" | b"DELETE")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use unitring_routing::hash::xxh64;

    fn headers(list: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect()
    }

    fn by(header: &str, terminal: bool) -> KeySource {
        KeySource {
            header: header.to_owned(),
            terminal,
        }
    }

    fn read(list: &[(&str, &[u8])], key: &[KeySource]) -> Request {
        Request::read(&headers(list), key, "x-unitring-host")
    }

    #[test]
    fn any_bytes_are_a_key_the_empty_ones_too_and_no_header_is_none() {
        let key = [by("x-user-id", false)];
        assert_eq!(
            read(&[("x-user-id", b"\xff\xfe")], &key).hash,
            Some(xxh64(b"\xff\xfe"))
        );
        assert_eq!(read(&[("x-user-id", b"")], &key).hash, Some(xxh64(b"")));
        assert_eq!(read(&[("other", b"a")], &key).hash, None);
    }

    #[test]
    fn a_terminal_source_ends_the_reading_only_if_it_gave_a_key() {
        let key = [by("a", true), by("b", false)];
        assert_eq!(
            read(&[("a", b"1"), ("b", b"2")], &key).hash,
            Some(xxh64(b"1"))
        );
        assert_eq!(read(&[("b", b"2")], &key).hash, Some(xxh64(b"2")));
        let both = [by("a", false), by("b", false)];
        let combined = xxh64(b"1").rotate_left(1) ^ xxh64(b"2");
        assert_eq!(
            read(&[("a", b"1"), ("b", b"2")], &both).hash,
            Some(combined)
        );
    }

    #[test]
    fn a_clients_own_unitring_headers_are_named_for_removal() {
        let list: [(&str, &[u8]); 4] = [
            ("x-unitring-host", b"1"),
            ("x-unitring-host", b"2"),
            ("x-unitring-any", b""),
            ("x", b""),
        ];
        assert_eq!(
            read(&list, &[]).forged,
            ["x-unitring-host", "x-unitring-any"]
        );
        let custom = Request::read(&headers(&[("x-route", b"")]), &[], "x-route");
        assert_eq!(custom.forged, ["x-route"]);
    }

    #[test]
    fn only_methods_that_change_data_may_count_as_updates() {
        for (method, expected) in [
            ("GET", false),
            ("POST", true),
            ("DELETE", true),
            ("", false),
        ] {
            assert_eq!(
                read(&[(":method", method.as_bytes())], &[]).unsafe_method,
                expected
            );
        }
        assert!(!read(&[], &[]).unsafe_method);
    }
}
