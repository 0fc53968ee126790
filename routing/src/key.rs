//! Values of a request → its hash key, combined as Envoy combines its hash policies.

use crate::hash::xxh64_chain;

/// The hash key of a request while its sources are read, one after the other.
///
/// Envoy rotates what it has by one bit before it mixes in the next source, so that two equal
/// sources do not cancel each other out (`source/common/http/hash_policy.cc`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyHash(Option<u64>);

impl KeyHash {
    /// Mixes in one source that the request has.
    #[must_use]
    pub fn and(self, source: u64) -> Self {
        Self(Some(self.0.map_or(0, |hash| hash.rotate_left(1)) ^ source))
    }

    /// The key, or `None` if the request had none of the sources.
    pub fn finish(self) -> Option<u64> {
        self.0
    }
}

/// The hash of one header: the values in sorted order, because the order in which a header is
/// repeated must not matter. An empty value counts; an absent header is no source at all.
pub fn header_hash(values: &mut [&[u8]]) -> Option<u64> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable();
    Some(xxh64_chain(values.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::xxh64;

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
        assert_ne!(hash, header_hash(&mut [b"ab"]));
        assert_eq!(header_hash(&mut [b""]), Some(xxh64(b"")));
        assert_eq!(header_hash(&mut []), None);
    }
}
