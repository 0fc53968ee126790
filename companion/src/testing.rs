//! What tests and benchmarks of other crates use. Beside the program nothing else is public.

pub use crate::config::{RedisSettings, TlsFiles, Url, Wait};
pub use crate::events::{Entry, GroupChange, GroupEvent};
pub use crate::explain::{Newcomer, Question, explain};
pub use crate::fixed::FixedData;
pub use crate::loads::{
    LoadReport, Owner, StoredLoad, advance, check, in_flight, instances, latest, rest,
};
pub use crate::registry::Registered;
pub use crate::replica::digest::bucket_of;
#[cfg(any(test, feature = "contract-tests"))]
pub use crate::store::contract;
pub use crate::store::embedded::Embedded;
pub use crate::store::redis::Redis as RedisStore;
pub use crate::store::{
    Batch, Change, ChangeFeed, Condition, FixedStore, Fleet, Health, Housekeeping, Leadership,
    Outbox, Outcome, Page, Records, Replica, Store, StoreError,
};
