//! Where records, registry, loads and events are kept: a trait for each duty, and what it carries.
//!
//! Two stores implement all of them, in files of the same names, and pass one suite (`contract`): [`embedded`], one
//! file of one process, and [`redis`], which the companions of a unit share. A store decides nothing but what must
//! be decided in the same atomic step as the change.
//!
//! | module | duty |
//! |---|---|
//! | `records` | records, one by one and listed |
//! | `replica` | what a bucket holds, as other units compare and repair it |
//! | `outbox` | ops on their way to the other units |
//! | `changefeed` | the log of changes, for those who watch |
//! | `fixed` | the fixed data of the unit |
//! | `housekeeping` | what goes by itself: what has expired, and tombstones that nobody needs |
//! | `fleet` | registry, loads and events of a unit |
//! | `leadership` | what companions of a unit share: who of them leads, and what it should know |
//! | `health` | whether the store is fit for use |

mod changefeed;
#[cfg(any(test, feature = "contract-tests"))]
pub mod contract;
pub mod embedded;
mod error;
mod fixed;
mod fleet;
mod health;
mod housekeeping;
mod leadership;
mod names;
mod outbox;
mod records;
pub mod redis;
mod replica;
mod spoiled;

pub use changefeed::{CHANGES_MAX, ChangeFeed, Changes};
pub use error::StoreError;
pub use fixed::{Fixed, FixedStore};
pub use fleet::{EVENTS_MAX, Fleet, REGISTERED_MAX, REPORTERS_MAX, Taken};
pub use health::{Agreement, Health};
pub use housekeeping::{COLLECTED_MAX, Compacted, Housekeeping, SWEPT_MAX};
pub use leadership::{LEASE, Leadership};
pub use outbox::{Backlog, Cursors, Outbox, Waiting};
pub use records::{Listed, Records};
pub use replica::{CONFLICTS_MAX, Held, Page, Recounted, Replica};
pub use spoiled::{SPOILED_MAX, Spoiled};

pub use crate::replica::{
    Applied, Batch, CONFLICT_VALUE_MAX, Change, ClockAhead, Condition, Conflict, Mark, Outcome,
    Written,
};

/// The layout of what is kept. A store that holds a newer one is refused.
pub const LAYOUT: u64 = 2;
/// Ops or records that are read at once, and their values together, in bytes (at least one).
pub const BATCH_MAX: usize = 200;
/// See [`BATCH_MAX`].
pub const BATCH_BYTES_MAX: usize = 1 << 20;

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
