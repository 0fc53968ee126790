//! Unit → unit: one message through the broker.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::BucketState;
use crate::ids::{InstanceId, ReporterId, ServiceName, UnitId};
use crate::record::{Clock, Op, Position, Record};
use crate::report::EventKind;

/// A message with its sender and the version of its format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`crate::PROTOCOL_VERSION`] of the sender; a reader sets a newer one aside.
    pub version: u32,
    /// The sending unit.
    pub from: UnitId,
    /// The content.
    pub body: Body,
}

/// The content of a message between units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// Changes that were made at the sender.
    Ops {
        /// One or more buckets.
        parts: Vec<Part>,
    },
    /// The digests of the sender's buckets.
    Digests {
        /// When the sender sent it, by its own clock, in ms since the Unix epoch.
        sent_ms: u64,
        /// How often the sender tells its digests, in ms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interval_ms: Option<u64>,
        /// The epoch of the digests: records that expire by then are not in them.
        epoch: u64,
        /// The last message that the sender read from each unit, and when, so that units can
        /// compare their clocks.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        echoes: Vec<Echo>,
        /// The sender's fixed data, if it has any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fixed: Option<FixedState>,
        /// The identity of the sender's store. Two identities that alternate are two units of one name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        store: Option<u64>,
        /// Every bucket that holds or held records.
        buckets: Vec<BucketState>,
    },
    /// Asks the receiver for the records of buckets whose digests differ.
    RepairRequest {
        /// The buckets that differ.
        buckets: Vec<u8>,
    },
    /// Records of a bucket, tombstones included. The receiver applies each that is later than its
    /// own.
    Repair(Repair),
    /// Asks for the receiver's fixed data, which are later than the sender's.
    FixedRequest {},
    /// A part of the sender's fixed data.
    Fixed(FixedPart),
    /// The current load in the sender's unit. Only the latest message counts, and only for some
    /// seconds.
    Loads {
        /// Every service on which any reporter of the unit reports.
        services: Vec<ServiceLoads>,
    },
    /// Events of instances at the sender, oldest first.
    Events {
        /// One or more events.
        events: Vec<UnitEvent>,
    },
}

/// Changes of one bucket, in order of sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The bucket of the changes.
    pub bucket: u8,
    /// The incarnation of the sender's sequence.
    pub incarnation: u64,
    /// Whether earlier ops are no longer in the sender's outbox, so that the receiver must ask for
    /// a repair.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// In order of sequence.
    pub ops: Vec<Op>,
    /// Sequences in between that need no op: a later op of the same record follows, or the change
    /// can't be sent. A reader of an older version sees a gap, and asks for a repair.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub passed: BTreeSet<u64>,
}

/// One message of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The bucket of the records.
    pub bucket: u8,
    /// A bounded number of records; a bucket may take several messages.
    pub records: Vec<Record>,
    /// The sender's positions before it read the first record.
    pub positions: BTreeMap<UnitId, Position>,
    /// The sender's clock at that time.
    pub clock: Clock,
    /// Whether this is the last message of the bucket. A receiver that has applied all of them has
    /// every op up to the positions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_last: bool,
}

/// The last message that was read from a unit, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The unit.
    pub unit: UnitId,
    /// When the unit sent the message, by its own clock.
    pub sent_ms: u64,
    /// When the message was read, by the clock of the unit that echoes it.
    pub heard_ms: u64,
}

/// The version of a unit's fixed data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FixedState {
    /// Grows with each change.
    pub version: u64,
    /// The checksum of the values.
    pub checksum: String,
}

/// A part of a unit's fixed data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedPart {
    /// The fixed data that this is a part of.
    pub state: FixedState,
    /// The number of this part: 0, 1, 2 …
    pub number: u32,
    /// The number of parts.
    pub of: u32,
    /// Values by dataset and key.
    pub datasets: BTreeMap<String, BTreeMap<String, String>>,
}

/// The load of one service in a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLoads {
    /// The service.
    pub service: ServiceName,
    /// Every reporter of the unit.
    pub reporters: Vec<ReporterLoads>,
}

/// The load of one reporter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReporterLoads {
    /// The reporter.
    pub reporter: ReporterId,
    /// The sequence of its last report.
    pub sequence: u64,
    /// How often it reports, in ms.
    pub interval_ms: u64,
    /// Requests in flight by instance; instances without any are absent.
    pub in_flight: BTreeMap<InstanceId, u64>,
    /// Requests in flight that the updates of an instance count as, beside `in_flight`; instances without any are
    /// absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub update_load: BTreeMap<InstanceId, u64>,
}

/// An event of an instance of a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitEvent {
    /// When it happened, in ms since the Unix epoch, by the clock of the reporter or companion that
    /// saw it.
    pub at_ms: u64,
    /// The kind of event.
    pub event: EventKind,
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
    /// The reason in a few words, for people.
    pub reason: String,
}
