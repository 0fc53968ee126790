//! Values of a request → its hash key, combined as Envoy combines its hash policies.

use std::collections::BinaryHeap;

use crate::hash::{xxh64, xxh64_chain};

/// The hash key of a request while its sources are read, one after another.
///
/// Envoy rotates the hash so far by one bit before it mixes in the next source, so that two equal
/// sources do not cancel each other out (`source/common/http/hash_policy.cc`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyHash(Option<u64>);

impl KeyHash {
    /// Mixes in the hash of one source that the request has.
    #[must_use]
    pub fn and(self, source: u64) -> Self {
        Self(Some(self.0.map_or(0, |hash| hash.rotate_left(1)) ^ source))
    }

    /// The key, or `None` if the request had none of the sources.
    pub fn finish(self) -> Option<u64> {
        self.0
    }
}

/// The hash of a header: its values in sorted order, since the order of a repeated header must not
/// matter. An empty value counts; an absent header is no source.
pub fn header_hash(values: &mut [&[u8]]) -> Option<u64> {
    match &mut *values {
        [] => return None,
        [_] => {}
        [first, second] => {
            if first > second {
                std::mem::swap(first, second);
            }
        }
        many => {
            // `sort` would add 10 KB to the filter, for a case that hardly any request has.
            let sorted = many.iter().copied().collect::<BinaryHeap<_>>();
            many.copy_from_slice(&sorted.into_sorted_vec());
        }
    }
    Some(xxh64_chain(values.iter().copied()))
}

/// The hash of a cookie, from the values of the `cookie` headers; `None` if it is absent or empty.
///
/// The first cookie of a name counts. Envoy skips spaces before the name, ends the name at the
/// first `=`, and takes a value out of its double quotes (`parseCookieValue`).
pub fn cookie_hash<'a>(headers: impl IntoIterator<Item = &'a [u8]>, name: &[u8]) -> Option<u64> {
    let cookies = headers
        .into_iter()
        .flat_map(|header| header.split(|byte| *byte == b';'));
    let mut values = cookies.filter_map(|cookie| {
        let start = cookie.iter().position(|byte| *byte != b' ')?;
        let (key, value) = split_at_first(cookie.get(start..)?, b'=')?;
        (key == name).then_some(value)
    });
    let value = values.next()?;
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    let value = unquoted.unwrap_or(value);
    (!value.is_empty()).then(|| xxh64(value))
}

/// The hash of a query parameter, undecoded. The first parameter of a name counts. One without a
/// value counts as empty, and an absent one is no source.
pub fn query_hash(path: &[u8], name: &[u8]) -> Option<u64> {
    let (_, query) = split_at_first(path, b'?')?;
    if query.is_empty() {
        return None;
    }
    // A trailing `&` does not start another parameter.
    let query = query.strip_suffix(b"&").unwrap_or(query);
    let mut parameters = query.split(|byte| *byte == b'&');
    parameters.find_map(|parameter| {
        let (key, value) = split_at_first(parameter, b'=').unwrap_or((parameter, b""));
        (key == name).then(|| xxh64(value))
    })
}

fn split_at_first(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_its_own_hash() {
        assert_eq!(KeyHash::default().and(42).finish(), Some(42));
        assert_eq!(KeyHash::default().finish(), None);
    }

    #[test]
    fn equal_sources_do_not_cancel_out() {
        assert_eq!(KeyHash::default().and(3).and(3).finish(), Some(6 ^ 3));
    }

    #[test]
    fn a_repeated_header_hashes_the_same_in_any_order_and_an_empty_one_counts() {
        let hash = header_hash(&mut [b"b", b"a"]);
        assert_eq!(hash, header_hash(&mut [b"a", b"b"]));
        assert_eq!(hash, Some(xxh64_chain([b"a".as_slice(), b"b"].into_iter())));
        let sorted = [b"a".as_slice(), b"b", b"ba", b"c"];
        let hash = header_hash(&mut [b"ba", b"c", b"a", b"b"]);
        assert_eq!(hash, Some(xxh64_chain(sorted.into_iter())));
        assert_ne!(hash, header_hash(&mut [b"ab"]));
        assert_eq!(header_hash(&mut [b""]), Some(xxh64(b"")));
        assert_eq!(header_hash(&mut []), None);
    }

    fn cookie(header: &str, name: &str) -> Option<u64> {
        cookie_hash([header.as_bytes()], name.as_bytes())
    }

    #[test]
    fn a_cookie_is_found_among_others_and_taken_out_of_its_quotes() {
        let ada = Some(xxh64(b"ada"));
        assert_eq!(cookie("sid=ada", "sid"), ada);
        assert_eq!(cookie("a=1; sid=ada;b=2", "sid"), ada);
        assert_eq!(cookie("sid=\"ada\"", "sid"), ada);
        assert_eq!(cookie("sid=ada; sid=bob", "sid"), ada);
        assert_eq!(cookie("sid=a=b", "sid"), Some(xxh64(b"a=b")));
        for none in ["sid=", "sid", "xsid=ada", "", ";;", "sid=\"\""] {
            assert_eq!(cookie(none, "sid"), None, "{none}");
        }
        let two = [b"a=1".as_slice(), b"sid=ada"];
        assert_eq!(cookie_hash(two, b"sid"), ada);
    }

    #[test]
    fn a_query_parameter_is_hashed_as_it_is_written() {
        let query = |path: &str| query_hash(path.as_bytes(), b"user");
        assert_eq!(query("/?user=ada&x=1"), Some(xxh64(b"ada")));
        assert_eq!(query("/?x=1&user=a%20b"), Some(xxh64(b"a%20b")));
        assert_eq!(query("/?user=ada&user=bob"), Some(xxh64(b"ada")));
        assert_eq!(query("/?user"), Some(xxh64(b"")));
        assert_eq!(query("/?user="), Some(xxh64(b"")));
        for none in ["/", "/?", "/?users=1", "/user=ada", "/?x&"] {
            assert_eq!(query(none), None, "{none}");
        }
    }
}
