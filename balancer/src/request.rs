//! A request's headers → its hash key, and what must be removed.
//!
//! Values need not be UTF-8. A request without any source of the key has no hash key, and Envoy's
//! own policy chooses.

use std::net::Ipv4Addr;

use unitring_routing::hash::xxh64;
use unitring_routing::key::{KeyHash, cookie_hash, header_hash, query_hash};

use crate::headers::Headers;
use crate::settings::{KeyFrom, KeySource};

/// Prefix of the filter's own headers; the filter removes those that a client sends.
pub const OWN_PREFIX: &str = "x-unitring-";

/// What one pass over a request's headers finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Headers that a client must not set, each name once.
    pub forged: Vec<&'a str>,
    /// Whether Envoy sent the request through the filter again, for an internal redirect. Then it
    /// carries the filter's own headers.
    pub redirected: bool,
    /// The hash key; `None` if the request has no source of the key.
    pub hash: Option<u64>,
}

/// Reads a request. `source_ip` is called only if the client's address is a source of the key,
/// since it costs a call into Envoy.
pub fn read<'a>(
    headers: &'a Headers,
    steer_header: &str,
    key: &[KeySource],
    source_ip: impl Fn() -> Option<String>,
) -> Seen<'a> {
    let mut seen = Seen::default();
    // Most keys are one header, whose value this pass finds, too.
    let key_header = match key {
        [
            KeySource {
                from: KeyFrom::Header(name),
                ..
            },
        ] => Some(name.as_bytes()),
        _ => None,
    };
    let (mut value, mut is_repeated) = (None, false);
    for (name, text) in headers {
        if Some(name) == key_header {
            is_repeated = value.replace(text).is_some();
        } else if name == b"x-envoy-original-url" {
            seen.redirected = true;
        }
        if is_forged(name, steer_header)
            && let Ok(name) = str::from_utf8(name)
            && !seen.forged.contains(&name)
        {
            seen.forged.push(name);
        }
    }
    seen.hash = match value.filter(|_| !is_repeated) {
        Some(value) => header_hash(&mut [value]),
        None => hash(headers, key, source_ip),
    };
    seen
}

fn is_forged(name: &[u8], steer_header: &str) -> bool {
    name.starts_with(OWN_PREFIX.as_bytes()) || name == steer_header.as_bytes()
}

/// The hash key of a request; `None` if it has no source of the key.
fn hash(
    headers: &Headers,
    key: &[KeySource],
    source_ip: impl Fn() -> Option<String>,
) -> Option<u64> {
    let mut hash = KeyHash::default();
    for source in key {
        let new = match &source.from {
            KeyFrom::Header(name) => by_header(headers, name),
            KeyFrom::Cookie(name) => cookie_hash(headers.values("cookie"), name.as_bytes()),
            KeyFrom::Query(name) => headers
                .values(":path")
                .next()
                .and_then(|path| query_hash(path, name.as_bytes())),
            KeyFrom::SourceIp => source_ip().map(|ip| xxh64(ip.as_bytes())),
        };
        if let Some(new) = new {
            hash = hash.and(new);
        }
        if source.terminal && hash.finish().is_some() {
            break;
        }
    }
    hash.finish()
}

fn by_header(headers: &Headers, name: &str) -> Option<u64> {
    let mut values: Vec<&[u8]> = headers.values(name).collect();
    header_hash(&mut values)
}

/// The IP address of `source.address`, without its port; `None` for a Unix socket.
///
/// The text stays as Envoy writes it, since Envoy hashes that. Rust formats some addresses
/// differently: those with a zone, or those that end like an IPv4 address.
pub fn without_port(address: &str) -> Option<&str> {
    let (ip, _) = address.rsplit_once(':')?;
    match ip.strip_prefix('[') {
        Some(ip) => ip.strip_suffix(']'),
        None => ip.parse::<Ipv4Addr>().ok().map(|_| ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::headers;
    use unitring_routing::hash::xxh64_chain;

    fn by(from: KeyFrom, terminal: bool) -> KeySource {
        KeySource { from, terminal }
    }

    fn header(name: &str, terminal: bool) -> KeySource {
        by(KeyFrom::Header(name.to_owned()), terminal)
    }

    fn key(list: &[(&str, &[u8])], key: &[KeySource]) -> Option<u64> {
        read(&headers(list), "", key, || Some("10.0.0.7".to_owned())).hash
    }

    #[test]
    fn any_bytes_are_a_key_the_empty_ones_too_and_no_header_is_none() {
        let by = [header("x-user-id", false)];
        assert_eq!(
            key(&[("x-user-id", b"\xff\xfe")], &by),
            Some(xxh64(b"\xff\xfe"))
        );
        assert_eq!(key(&[("x-user-id", b"")], &by), Some(xxh64(b"")));
        assert_eq!(key(&[("other", b"a")], &by), None);
    }

    #[test]
    fn every_kind_of_source_gives_the_hash_of_its_value() {
        let list: [(&str, &[u8]); 3] = [
            (":path", b"/cart?user=ada"),
            ("cookie", b"a=1; sid=42"),
            ("x", b"y"),
        ];
        for (from, value) in [
            (KeyFrom::Header("x".into()), "y"),
            (KeyFrom::Header(":path".into()), "/cart?user=ada"),
            (KeyFrom::Cookie("sid".into()), "42"),
            (KeyFrom::Query("user".into()), "ada"),
            (KeyFrom::SourceIp, "10.0.0.7"),
        ] {
            let expected = Some(xxh64(value.as_bytes()));
            assert_eq!(key(&list, &[by(from.clone(), false)]), expected, "{from:?}");
        }
    }

    #[test]
    fn a_terminal_source_ends_the_reading_only_if_there_is_a_key() {
        let by = [header("a", true), header("b", false)];
        assert_eq!(key(&[("a", b"1"), ("b", b"2")], &by), Some(xxh64(b"1")));
        assert_eq!(key(&[("b", b"2")], &by), Some(xxh64(b"2")));
        let both = [header("a", false), header("b", false)];
        let combined = xxh64(b"1").rotate_left(1) ^ xxh64(b"2");
        assert_eq!(key(&[("a", b"1"), ("b", b"2")], &both), Some(combined));
    }

    #[test]
    fn the_clients_address_is_asked_for_only_if_it_is_reached() {
        let sources = [header("a", true), by(KeyFrom::SourceIp, false)];
        let asked = std::cell::Cell::new(0);
        let ip = || {
            asked.set(asked.get() + 1);
            None
        };
        let hash = |list: &Headers| read(list, "", &sources, ip).hash;
        assert!(hash(&headers(&[("a", b"1")])).is_some());
        assert_eq!(asked.get(), 0);
        assert_eq!(hash(&Headers::default()), None);
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn an_address_loses_its_port_and_its_brackets() {
        for (address, expected) in [
            ("10.0.0.7:5000", Some("10.0.0.7")),
            ("[::1]:5000", Some("::1")),
            ("[::1.2.3.4]:0", Some("::1.2.3.4")),
            ("[fe80::1%1]:0", Some("fe80::1%1")),
            ("@unix", None),
            ("/run/unix:1", None),
        ] {
            assert_eq!(without_port(address), expected, "{address}");
        }
    }

    #[test]
    fn a_clients_own_unitring_headers_are_named_for_removal() {
        let list: [(&str, &[u8]); 4] = [
            ("x-unitring-host", b"1"),
            ("x-unitring-any", b""),
            ("x-unitring-host", b"2"),
            ("x", b""),
        ];
        let list = headers(&list);
        let names = read(&list, "x-unitring-host", &[], || None).forged;
        assert_eq!(names, ["x-unitring-host", "x-unitring-any"]);
        let list = headers(&[("x-route", b"")]);
        assert_eq!(read(&list, "x-route", &[], || None).forged, ["x-route"]);
    }

    #[test]
    fn a_key_header_that_is_repeated_counts_with_all_of_its_values() {
        let by = [header("x", false)];
        for list in [[("x", b"1"), ("x", b"2")], [("x", b"2"), ("x", b"1")]] {
            let both = xxh64_chain([b"1".as_slice(), b"2"]);
            assert_eq!(key(&list.map(|(n, v)| (n, v.as_slice())), &by), Some(both));
        }
    }
}
