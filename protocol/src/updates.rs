//! Filter → companion: data updates that instances announced in their answers; and what became of them.

use serde::{Deserialize, Serialize};

use crate::ids::{DatasetName, RecordKey, ReporterId, ServiceName};
use crate::record::Value;

/// Most updates in one message.
pub const UPDATES_MAX: usize = 512;
/// Sequences stay below it, so that no reader rounds one.
pub const SEQUENCE_MAX: u64 = 1 << 53;
/// The longest time to live of a record: ten years, in ms.
pub const TTL_MS_MAX: u64 = 10 * 366 * 24 * 3_600_000;

/// Data updates of one VM of one Envoy process, in the order in which the instances answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updates {
    /// [`crate::PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// The Envoy process, as in its reports. Sequences of all its VMs are comparable.
    pub source: ReporterId,
    /// The VM of the process; tells two updates with the same sequence apart.
    pub vm: u64,
    /// The service whose instances answered.
    pub service: ServiceName,
    /// At most [`UPDATES_MAX`].
    pub updates: Vec<Update>,
}

/// One data update.
///
/// Source, sequence and VM are its id: sent twice it applies once. Of two updates of a record by one
/// source the greater (sequence, VM) came later, whichever arrives first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Microseconds of the clock that all VMs of the process share, and in each VM greater than the
    /// one before. Below [`SEQUENCE_MAX`].
    pub sequence: u64,
    /// The dataset of the record.
    pub dataset: DatasetName,
    /// Its key.
    pub key: RecordKey,
    /// Whether the record was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
    /// How long the record lives from when the companion takes it, in ms; 1 to [`TTL_MS_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The new value; absent for an empty one, and for a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// The companion's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// [`crate::PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// Updates that are not in the store. All others are, durably, or a later one of the same source
    /// is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
}

/// An update that is not in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The update's sequence.
    pub sequence: u64,
    /// As an HTTP status: 4xx if it is refused for good, 5xx if it may be sent again.
    pub status: u16,
    /// The reason, for people.
    pub error: String,
}
