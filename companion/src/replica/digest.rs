//! A record's share of its bucket's digest, and its bucket. The Lua scripts of the Redis store
//! compute the same: the first 64 bits of SHA-1, the hash that Redis' Lua has.

use sha1::{Digest as _, Sha1};
use unitring_protocol::digest::Digest;
use unitring_protocol::record::RecordId;

use super::InvalidMark;

/// Parses `<dataset>/<key>`, the name of a record in every store.
pub(crate) fn record_id(text: &str) -> Result<RecordId, InvalidMark> {
    let corrupt = || InvalidMark::new("record", text);
    let (dataset, key) = text.split_once('/').ok_or_else(corrupt)?;
    Ok(RecordId {
        dataset: dataset.parse().map_err(|_| corrupt())?,
        key: key.parse().map_err(|_| corrupt())?,
    })
}

/// The bucket of a record: xxh64 of `<dataset>/<key>`, modulo 256.
pub fn bucket_of(id: &RecordId) -> u8 {
    let [low, ..] = unitring_routing::hash::xxh64(id.to_string().as_bytes()).to_le_bytes();
    low
}

/// A record's share of its bucket's digest. XOR adds it and removes it again.
pub(crate) fn share(id: &str, mark: &str) -> Digest {
    let hash = Sha1::new()
        .chain_update(id.as_bytes())
        .chain_update(b" ")
        .chain_update(mark.as_bytes());
    Digest(first_64_bits(hash))
}

/// The first 64 bits of a hash.
pub(super) fn first_64_bits(hash: Sha1) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(hash.finalize().iter()) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_first_half_of_what_redis_sha1hex_gives() {
        // redis-cli eval 'return redis.sha1hex("d/k 1.0@a")' 0
        let id: RecordId = RecordId {
            dataset: "d".parse().unwrap(),
            key: "k".parse().unwrap(),
        };
        let sha1 = Sha1::digest(b"d/k 1.0@a");
        let hex: String = sha1.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(share(&id.to_string(), "1.0@a").to_string(), hex[..16]);
    }
}
