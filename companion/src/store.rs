//! Where records, registry, loads and events are kept: the traits, and what they carry.
//!
//! Two stores implement them and pass one suite (`contract`): [`embedded`], one file of one
//! process, and [`redis`], which the companions of a unit share. A store decides nothing but
//! what must be decided in the same atomic step as the change.

#[cfg(any(test, feature = "contract-tests"))]
pub mod contract;
pub mod embedded;
mod error;
mod names;
pub mod redis;
mod spoiled;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde::Serialize;
use unitring_protocol::digest::BucketState;
use unitring_protocol::ids::{DatasetName, InstanceId, RecordKey, ReporterId, ServiceName, UnitId};
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId};
use unitring_protocol::report::{Report, ServiceReport};
use unitring_protocol::snapshot::ServiceSnapshot;

pub use error::StoreError;
pub use spoiled::{SPOILED_MAX, Spoiled};

use crate::events::{Cursor, Entry};
use crate::group::fixed::FixedData;
use crate::loads::wiring::Miswired;
use crate::loads::{Cut, StoredLoad, Totals};
use crate::registry::{Registered, Registration, Registry};
pub use crate::replica::{
    Applied, Batch, CONFLICT_VALUE_MAX, Change, ClockAhead, Condition, Conflict, Mark, Outcome,
    Written,
};

/// The layout of what is kept. A store that holds a newer one is refused.
pub const LAYOUT: u64 = 2;
/// Events kept; older ones are dropped.
pub const EVENTS_MAX: u64 = 10_000;
/// Reports kept, one per reporter and service; more are refused.
pub const REPORTERS_MAX: u64 = 4_096;
/// Instances in the registry; more are refused.
pub const REGISTERED_MAX: u64 = 20_000;
/// Ops or records that are read at once, and their values together, in bytes (at least one).
pub const BATCH_MAX: usize = 200;
/// See [`BATCH_MAX`].
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Changes of a bucket that are known at least; older ones are dropped.
pub const CHANGES_MAX: u64 = 512;
/// Records of a bucket that one look frees.
pub const SWEPT_MAX: usize = 200;
/// Tombstones and expired records of a bucket that one step forgets.
pub const COLLECTED_MAX: usize = 1_000;
/// Conflicts of a bucket that are known; the oldest go.
pub const CONFLICTS_MAX: u64 = 64;

/// A bucket as its own store sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// What the others are told.
    pub state: BucketState,
    /// The bucket's clock.
    pub clock: Clock,
    /// Since when the oldest of what may once be forgotten is gone, in ms since the Unix epoch.
    pub gone_ms: Option<u64>,
}

/// The first ops of an outbox after some position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// That of their sequence.
    pub incarnation: u64,
    /// The ops.
    pub ops: Vec<Op>,
    /// Sequences between these that need nothing.
    pub passed: BTreeSet<u64>,
    /// That of the last op that was made here, in the outbox or not.
    pub last: u64,
    /// Whether there are more.
    pub more: bool,
}

/// What waits in an outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many ops.
    pub ops: u64,
    /// What they take, about.
    pub bytes: u64,
}

/// How far the broker has the ops of each bucket, by the unit they are for.
pub type Cursors = BTreeMap<UnitId, BTreeMap<u8, Position>>;

/// Where the next page of a bucket starts. Only the store that made it can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Ids that were listed, and not yet read.
    pub listed: Vec<RecordId>,
    /// Where listing goes on; `None` if all is listed.
    pub more: Option<String>,
}

impl Page {
    /// The first page.
    pub fn first() -> Self {
        Self {
            listed: Vec::new(),
            more: Some(String::new()),
        }
    }

    /// Whether nothing is left to read.
    pub fn is_done(&self) -> bool {
        self.listed.is_empty() && self.more.is_none()
    }
}

/// What companions of one unit must have alike, as text: kept in the store, so that one that differs is found
/// out before it does harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement(pub String);

/// Records with their versions, outbox, digests and positions.
#[async_trait]
pub trait Records: Send + Sync {
    /// Changes a record here if the condition holds. Condition, record, version, digest, sequence, log
    /// of changes and, if the unit has peers, outbox are one step.
    async fn write_if(
        &self,
        id: &RecordId,
        change: Change<'_>,
        condition: &Condition,
        now_ms: u64,
    ) -> Result<Outcome, StoreError>;

    /// The same whatever is there: `None` deletes. Answers `None` if there is nothing to delete.
    async fn write(
        &self,
        id: &RecordId,
        value: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Option<Written>, StoreError> {
        let change = Change::from(value);
        match self.write_if(id, change, &Condition::Any, now_ms).await? {
            Outcome::Done(written) => Ok(Some(written)),
            Outcome::Nothing | Outcome::Refused(_) => Ok(None),
        }
    }

    /// A record, a deleted one included.
    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError>;

    /// Applies changes of other units, each only if its version is later than what is there: batch by
    /// batch, in order. Records, versions, digest, clock, position and log of changes of one batch change
    /// in one step. What a position covers and is not there was forgotten, and stays so.
    async fn apply(&self, parts: &[(u8, Batch)], now_ms: u64) -> Result<Vec<Applied>, StoreError>;

    /// The first ops of these outboxes after these positions, in this order, each within [`BATCH_MAX`] and
    /// its part of [`BATCH_BYTES_MAX`]. A position of another incarnation is before all.
    async fn outboxes(&self, asked: &[(u8, Position)]) -> Result<Vec<Waiting>, StoreError>;

    /// How far the broker has what is for each unit, as it was stored last.
    async fn cursors(&self) -> Result<Cursors, StoreError>;

    /// Stores that the broker has what is for this unit up to here, and removes what it has for all
    /// of these members. What is of another incarnation counts for nothing. Answers how many ops.
    async fn confirm(
        &self,
        unit: &UnitId,
        cursors: &[(u8, Position)],
        members: &[UnitId],
    ) -> Result<u64, StoreError>;

    /// Removes the first ops of these outboxes but for so many, whether or not anybody has them. Answers
    /// how many.
    async fn shorten(&self, keep: &[(u8, u64)]) -> Result<u64, StoreError>;

    /// What waits, per bucket that has something.
    async fn waiting(&self) -> Result<BTreeMap<u8, Backlog>, StoreError>;

    /// Every bucket that holds or held something, in order, with the digests of this moment's epoch.
    async fn states(&self, now_ms: u64) -> Result<Vec<Held>, StoreError>;

    /// Forgets what was gone before this moment, at most [`COLLECTED_MAX`] of it: every member must have
    /// had these positions. Answers how many.
    async fn collect(
        &self,
        bucket: u8,
        before_ms: u64,
        fence: &BTreeMap<UnitId, Position>,
    ) -> Result<u64, StoreError>;

    /// The last conflicts, the latest first.
    async fn conflicts(&self, limit: usize) -> Result<Vec<Conflict>, StoreError>;

    /// Makes this companion's [`Agreement`] that of the unit.
    async fn agree(&self) -> Result<(), StoreError>;

    /// Sets the clocks of buckets that are of the future back to now. Answers which.
    async fn reset_clocks(&self, now_ms: u64) -> Result<Vec<u8>, StoreError>;

    /// Counts a bucket's digests anew; answers whether they were wrong.
    async fn recount(&self, bucket: u8) -> Result<bool, StoreError>;

    /// What was left out since the process started, since no unitring wrote it, and why.
    fn spoiled(&self) -> BTreeMap<String, String>;

    /// Some records of a bucket, tombstones included, and where the next ones start.
    async fn page(&self, bucket: u8, page: Page) -> Result<(Vec<Record>, Page), StoreError>;
}

/// A record as a listing names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: RecordId,
    /// Its version, and when it expires.
    pub mark: Mark,
}

/// What `unitring group create` loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Grows with each change.
    pub version: u64,
    /// That of the values: equal in units with equal data.
    pub checksum: String,
    /// How many values there are.
    pub count: u64,
    /// In which datasets.
    pub datasets: Vec<String>,
}

/// What changed in a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// With their numbers, in order: 1, 2, 3 …
    pub changes: Vec<(u64, Listed)>,
    /// Whether some that were asked for are no longer known.
    pub missed: bool,
}

/// Looks over all records: listings, the log of changes, and what is to be forgotten.
#[async_trait]
pub trait Browse: Send + Sync {
    /// Some of the live records of a bucket whose dataset is this and whose key starts like that, about
    /// `count`, and where the next ones start, if there may be more. What is there throughout is listed
    /// at least once.
    async fn list(
        &self,
        bucket: u8,
        (dataset, prefix): (&DatasetName, &str),
        from: &str,
        count: usize,
        now_ms: u64,
    ) -> Result<(Vec<Listed>, Option<String>), StoreError>;

    /// The number of the last change of each bucket, in order; 0 where there was none.
    async fn heads(&self) -> Result<Vec<u64>, StoreError>;

    /// What changed in a bucket after this number: at most [`CHANGES_MAX`] are known.
    async fn changes(&self, bucket: u8, after: u64) -> Result<Changes, StoreError>;

    /// What the fixed data are, if there are some.
    async fn fixed(&self) -> Result<Option<Fixed>, StoreError>;

    /// A value of the fixed data.
    async fn fixed_value(
        &self,
        dataset: &DatasetName,
        key: &RecordKey,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// All of them.
    async fn fixed_data(&self) -> Result<Option<(Fixed, FixedData)>, StoreError>;

    /// Puts these in their place, if they are of a later version, or of the same and a greater checksum;
    /// answers whether.
    async fn load_fixed(&self, version: u64, data: &FixedData) -> Result<bool, StoreError>;

    /// Frees what has expired, as much as fits one look. Where the unit has no peers that must learn of
    /// it, nothing of it is kept. Answers how many records.
    async fn sweep(&self, now_ms: u64) -> Result<u64, StoreError>;
}

/// What several companions of a unit share beside its data: who of them leads, and what it should know.
#[async_trait]
pub trait Lease: Send + Sync {
    /// Takes the lead for [`crate::leadership::TERM`] if nobody has it, or renews it. Answers its term, or
    /// `None` if another leads.
    async fn lead(&self, me: &str) -> Result<Option<u64>, StoreError>;

    /// Gives the lead back, if it is this one's.
    async fn resign(&self, me: &str) -> Result<(), StoreError>;

    /// Stores what a leader says; `false` if a later one leads.
    async fn append(&self, term: u64, event: &Entry) -> Result<bool, StoreError>;

    /// Tells the leader that a bucket was written. It may get lost.
    async fn hint(&self, bucket: u8) -> Result<(), StoreError>;

    /// What was told since, and since when to ask next; the empty text for now.
    async fn hints(&self, after: &str) -> Result<(BTreeSet<u8>, String), StoreError>;
}

/// What a report did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The highest event number of this reporter that is stored.
    pub events_through: u64,
    /// What each counter grew by; nothing if the report was older than a known one.
    pub growth: BTreeMap<InstanceId, Totals>,
    /// Whether the report was dropped as old.
    pub old: bool,
    /// Events that were stored.
    pub events: u64,
    /// What was not kept as it was said.
    pub cut: Cut,
}

/// Registry, loads and events of a unit.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Takes one service's part of a report.
    async fn take(
        &self,
        report: &Report,
        service: &ServiceReport,
        now_ms: u64,
    ) -> Result<Taken, StoreError>;

    /// The last reports on a service of the reporters that are alive.
    async fn loads(
        &self,
        service: &ServiceName,
        now_ms: u64,
    ) -> Result<Vec<StoredLoad>, StoreError>;

    /// What the rest of the fleet carries for one that has just reported: [`crate::loads::rest`] over
    /// [`Self::loads`], without reading them all each time.
    async fn rest(
        &self,
        service: &ServiceName,
        reporter: &ReporterId,
        now_ms: u64,
    ) -> Result<ServiceSnapshot, StoreError>;

    /// The reporters that are alive and found something wrong in their wiring, over all services, without
    /// reading every report each time.
    async fn miswired(&self, now_ms: u64) -> Result<Vec<Miswired>, StoreError>;

    /// Counters of a service's instances, over all reporters there ever were.
    async fn totals(
        &self,
        service: &ServiceName,
    ) -> Result<BTreeMap<InstanceId, Totals>, StoreError>;

    /// Services that somebody reports on.
    async fn reported(&self) -> Result<BTreeSet<ServiceName>, StoreError>;

    /// Registers an instance or renews it, with an event if it is new, or begins or ends to drain.
    /// With `keeps_draining` that is as it was, whatever `instance` says. Answers it as it is now.
    async fn register(
        &self,
        service: &ServiceName,
        instance: &Registered,
        keeps_draining: bool,
        now_ms: u64,
    ) -> Result<(Registration, Registered), StoreError>;

    /// Removes an instance, with an event. `false` if there was none.
    async fn unregister(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        now_ms: u64,
    ) -> Result<bool, StoreError>;

    /// The whole registry with its revision.
    async fn registry(&self) -> Result<Registry, StoreError>;

    /// The registry's revision: it grows with each change, not with a renewal.
    async fn revision(&self) -> Result<u64, StoreError>;

    /// Removes what has expired: instances, with an event each, reports, and counters of instances
    /// that nobody knows. Answers how many instances.
    async fn expire(&self, now_ms: u64) -> Result<u64, StoreError>;

    /// Events after a cursor, oldest first; without one, the latest `limit`.
    async fn events(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Entry)>, StoreError>;

    /// Whether the store takes writes, and has a layout that this program knows.
    async fn check(&self) -> Result<(), StoreError>;
}

/// Whether it is so long since it was due last; then it counts as done.
fn is_due(last_ms: &AtomicU64, every_ms: u64, now_ms: u64) -> bool {
    let is_due = now_ms.saturating_sub(last_ms.load(Ordering::Relaxed)) >= every_ms;
    if is_due {
        last_ms.store(now_ms, Ordering::Relaxed);
    }
    is_due
}
