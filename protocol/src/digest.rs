//! Checksums of buckets of records, by which two units compare their data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::UnitId;
use crate::record::Position;

/// The number of buckets. The hash of a record's id decides its bucket.
pub const BUCKETS: usize = 256;

/// Records that expire leave the digests in steps of this time, by their expiry, so that units need
/// not forget them at the same moment.
pub const EPOCH_MS: u64 = 600_000;

/// The XOR over a bucket's records of a hash of `<id> <version>`. Order does not matter, and a
/// change is one XOR out and one in. Deleted records are not in it; records that expire are in it
/// until their epoch comes. Written as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(pub u64);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Self(value))
    }
}

/// A bucket as one unit sees it at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BucketState {
    /// The number of the bucket.
    pub bucket: u8,
    /// The digest of its records.
    pub digest: Digest,
    /// How far the ops of each unit are applied, this unit's own included. Two digests are
    /// comparable only if all positions are equal: otherwise ops are still on their way.
    pub positions: BTreeMap<UnitId, Position>,
}
