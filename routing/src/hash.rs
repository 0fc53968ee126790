//! The hash functions: Envoy's, so that placement is Envoy's, and a mixer for keyed jumps.

use twox_hash::XxHash64;

/// Envoy's `XX_HASH`: xxh64 with seed 0, as used for ring points and for hash keys.
pub fn xxh64(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// xxh64 of several values as Envoy chains them: the hash of one is the seed of the next.
pub fn xxh64_chain<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    values.into_iter().fold(0, XxHash64::oneshot)
}

/// A bijection of 64 bits in which every input bit reaches every output bit (the finalizer of
/// SplitMix64; Steele, Lea and Flood 2014).
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_reference_implementation() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
    }

    #[test]
    fn a_chain_of_one_is_the_plain_hash() {
        assert_eq!(xxh64_chain([b"abc".as_slice()]), xxh64(b"abc"));
        assert_ne!(xxh64_chain([b"ab".as_slice(), b"c"]), xxh64(b"abc"));
    }
}
