//! Storage of records, registry, loads and events: a trait for each duty, and the types that it
//! uses.
//!
//! Two stores implement all of them, in files of the same names, and pass one suite (`contract`):
//! [`embedded`], one file of one process, and [`redis`], which the companions of a unit share. A
//! store decides only what must be decided in the same atomic step as the change.
//!
//! | module | duty |
//! |---|---|
//! | `records` | records, one by one and listed |
//! | `replica` | the content of a bucket, as other units compare and repair it |
//! | `outbox` | ops on their way to the other units |
//! | `changefeed` | the log of changes, for watchers |
//! | `fixed` | the fixed data of the unit |
//! | `housekeeping` | removes what has expired, and tombstones that no member needs |
//! | `fleet` | registry, loads and events of a unit |
//! | `leadership` | the lease of the unit's leader, its events, and hints for it |
//! | `health` | whether the store is ready for use |

mod changefeed;
#[cfg(any(test, feature = "contract-tests"))]
pub mod contract;
pub(crate) mod embedded;
mod error;
mod event_log;
mod fixed;
mod fleet;
mod health;
mod housekeeping;
mod leadership;
mod names;
mod outbox;
mod records;
pub(crate) mod redis;
mod replica;
mod settled;
mod spoiled;

pub use changefeed::ChangeFeed;
pub(crate) use changefeed::{CHANGES_MAX, Changes};
pub use error::StoreError;
pub(crate) use event_log::{EVENTS_BYTES_MAX, LATEST_MS, LogSize, Logged, TRIMMED_MAX};
pub(crate) use fixed::Fixed;
pub use fixed::FixedStore;
pub use fleet::Fleet;
pub(crate) use fleet::{REGISTERED_MAX, REPORTERS_MAX, Taken};
pub use health::Health;
pub(crate) use health::{Agreement, Keeping, SINCE_AGREED};
pub use housekeeping::Housekeeping;
pub(crate) use housekeeping::{COLLECTED_MAX, Compacted, SWEPT_MAX};
pub(crate) use leadership::LEASE;
pub use leadership::Leadership;
pub use outbox::Outbox;
pub(crate) use outbox::{Backlog, Cursors, Waiting};
pub(crate) use records::Listed;
pub use records::Records;
pub(crate) use replica::{CONFLICTS_MAX, Held, Recounted};
pub use replica::{Page, Replica};
#[cfg(test)]
pub(crate) use settled::DOUBTED_MS;
pub(crate) use settled::Settled;
pub(crate) use spoiled::Spoiled;

#[cfg(test)]
pub(crate) use crate::replica::ClockAhead;
pub(crate) use crate::replica::{Applied, CONFLICT_VALUE_MAX, Conflict, Mark, Written};
pub use crate::replica::{Batch, Change, Condition, Outcome};

/// The layout of the stored data. A store with another layout is refused.
pub(crate) const LAYOUT: u64 = 2;
/// Most ops or records that are read at once; for the bytes of their values see
/// [`BATCH_BYTES_MAX`].
pub(crate) const BATCH_MAX: usize = 200;
/// Most bytes of values in a batch of [`BATCH_MAX`]; at least one op or record is read.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;

/// All duties of a store: what a companion serves from.
pub trait Store:
    Records + Replica + Outbox + ChangeFeed + FixedStore + Housekeeping + Fleet + Leadership + Health
{
}

impl<T> Store for T where
    T: Records
        + Replica
        + Outbox
        + ChangeFeed
        + FixedStore
        + Housekeeping
        + Fleet
        + Leadership
        + Health
{
}
