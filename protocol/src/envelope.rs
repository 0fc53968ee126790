//! Unit → unit: one message through the broker.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::BucketState;
use crate::ids::{InstanceId, ReporterId, ServiceName, UnitId};
use crate::record::{Clock, Op, Position, Record};
use crate::report::EventKind;

/// A message with its sender and the version of its form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`crate::PROTOCOL_VERSION`] of the sender; a reader sets a newer one aside.
    pub version: u32,
    /// The unit that sent it.
    pub from: UnitId,
    /// What it says.
    pub body: Body,
}

/// What units say to each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// Changes made at the sender.
    Ops {
        /// One or more buckets.
        parts: Vec<Part>,
    },
    /// What the sender's buckets hold.
    Digests {
        /// When it was sent, by the sender's clock, in ms since the Unix epoch.
        sent_ms: u64,
        /// The epoch up to which records that expire are not in the digests.
        epoch: u64,
        /// What the sender last heard of each unit, and when: so that clocks can be compared.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        echoes: Vec<Echo>,
        /// The fixed data there, if there are some.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fixed: Option<FixedState>,
        /// The identity of the sender's store: a unit in whose name two of them speak is two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        store: Option<u64>,
        /// Every bucket that holds or held something.
        buckets: Vec<BucketState>,
    },
    /// "Mine differs from yours: send me these."
    RepairRequest {
        /// The buckets that differ.
        buckets: Vec<u8>,
    },
    /// Records of a bucket, tombstones included; each is applied if it is later than what is there.
    Repair(Repair),
    /// "Your fixed data are later than mine: send me them."
    FixedRequest {},
    /// Some of the sender's fixed data.
    Fixed(FixedPart),
    /// What the sender's unit carries now. The latest counts, for some seconds.
    Loads {
        /// Every service that somebody there reports on.
        services: Vec<ServiceLoads>,
    },
    /// What happened to instances at the sender, oldest first.
    Events {
        /// One or more.
        events: Vec<UnitEvent>,
    },
}

/// Changes of one bucket, in order of sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The bucket they belong to.
    pub bucket: u8,
    /// That of the sender's sequence.
    pub incarnation: u64,
    /// Whether ops before these are no longer in the sender's outbox: the reader asks for a repair.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// In order of sequence.
    pub ops: Vec<Op>,
    /// Sequences between these that need nothing: a later op of the same record comes, or the change can't be
    /// sent. A reader who does not know of them sees a gap, and repairs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub passed: BTreeSet<u64>,
}

/// One message of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The bucket that the records belong to.
    pub bucket: u8,
    /// A bounded number of them; a bucket may take several messages.
    pub records: Vec<Record>,
    /// The sender's positions before it read the first record.
    pub positions: BTreeMap<UnitId, Position>,
    /// The sender's clock then.
    pub clock: Clock,
    /// Whether this is the last message of the bucket: whoever applied all has every op up to the
    /// positions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_last: bool,
}

/// What was heard of a unit, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Which unit.
    pub unit: UnitId,
    /// When it sent that, by its clock.
    pub sent_ms: u64,
    /// When that was read, by the clock of whoever echoes.
    pub heard_ms: u64,
}

/// Which fixed data a unit has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FixedState {
    /// Grows with each change.
    pub version: u64,
    /// That of the values.
    pub checksum: String,
}

/// Some of a unit's fixed data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedPart {
    /// Of which data this is a part.
    pub state: FixedState,
    /// Its number: 0, 1, 2 …
    pub number: u32,
    /// How many parts there are.
    pub of: u32,
    /// Values by dataset and key.
    pub datasets: BTreeMap<String, BTreeMap<String, String>>,
}

/// What a unit carries of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLoads {
    /// Which service.
    pub service: ServiceName,
    /// Every reporter there.
    pub reporters: Vec<ReporterLoads>,
}

/// What one reporter carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReporterLoads {
    /// Which reporter.
    pub reporter: ReporterId,
    /// That of its last report.
    pub sequence: u64,
    /// How often it reports, in ms.
    pub interval_ms: u64,
    /// Requests in flight by instance, where there are some.
    pub in_flight: BTreeMap<InstanceId, u64>,
}

/// What happened to an instance of a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitEvent {
    /// When, in ms since the Unix epoch, by the clock of whoever saw it.
    pub at_ms: u64,
    /// What.
    pub event: EventKind,
    /// Of which service.
    pub service: ServiceName,
    /// To which instance.
    pub instance: InstanceId,
    /// Why, in a few words for people.
    pub reason: String,
}
