//! The hash functions: Envoy's, so that placement matches Envoy's, and a mixer for a key's jumps.

use twox_hash::XxHash64;

/// The hash function of ring points. Hash keys of requests always use xxh64, as in Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashFunction {
    /// Envoy's `XX_HASH`.
    #[default]
    XxHash64,
    /// Envoy's `MURMUR_HASH_2`.
    Murmur2,
}

impl HashFunction {
    /// The hash of these bytes.
    pub fn hash(self, bytes: &[u8]) -> u64 {
        match self {
            HashFunction::XxHash64 => xxh64(bytes),
            HashFunction::Murmur2 => murmur2(bytes),
        }
    }
}

/// Envoy's `XX_HASH`: xxh64 with seed 0, as used for ring points and for hash keys.
#[inline]
pub fn xxh64(bytes: &[u8]) -> u64 {
    xxh64_seeded(bytes, 0)
}

pub(crate) fn xxh64_seeded(bytes: &[u8], seed: u64) -> u64 {
    XxHash64::oneshot(seed, bytes)
}

/// xxh64 of several values, chained as in Envoy: the hash of one is the seed of the next.
pub fn xxh64_chain<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    values.into_iter().fold(0, XxHash64::oneshot)
}

/// 64-bit MurmurHash2 (Appleby 2008) as libstdc++ hashes strings, with its seed.
fn murmur2(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0xc70f_6907;
    const MUL: u64 = 0xc6a4_a793_5bd1_e995;
    let shift_mix = |value: u64| value ^ (value >> 47);
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut hash = SEED ^ length.wrapping_mul(MUL);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        hash ^= shift_mix(word.wrapping_mul(MUL)).wrapping_mul(MUL);
        hash = hash.wrapping_mul(MUL);
    }
    if !rest.is_empty() {
        let word = rest
            .iter()
            .rev()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(MUL);
    }
    shift_mix(shift_mix(hash).wrapping_mul(MUL))
}

/// A bijection of 64 bits in which every input bit reaches every output bit (the finalizer of
/// SplitMix64; Steele, Lea and Flood 2014).
#[inline]
pub fn mix(value: u64) -> u64 {
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
