//! The one rule for changes of records: pure, `present record, change, now → record afterwards`.
//! Every store decides by it.
//!
//! # Layout
//!
//! | module | what |
//! |---|---|
//! | [`change`] | a change, and its outcome |
//! | [`bucket`] | a bucket's clock and sequence, and how they advance |
//! | [`bounds`] | the bounds that every change keeps |
//! | [`merge`] | the decision on a single change |
//! | [`transaction`] | the steps of a change, on any storage of a bucket |
//! | [`mark`] | the metadata of a value |
//! | [`stamps`] | the data updates of a record that were applied |
//! | [`digest`] | the bucket of a record, and its share of the bucket's digest |

pub(crate) mod bounds;
pub(crate) mod bucket;
pub(crate) mod change;
pub(crate) mod digest;
pub(crate) mod mark;
pub(crate) mod merge;
pub(crate) mod stamps;
pub(crate) mod transaction;

pub(crate) use bucket::Bucket;
pub(crate) use change::{Applied, CONFLICT_VALUE_MAX, ClockAhead, Conflict, Written};
pub use change::{Batch, Change, Condition, Outcome};
pub(crate) use mark::{InvalidMark, Mark, Part, epoch};
pub(crate) use merge::Rules;
pub(crate) use stamps::{Source, Stamp, Stamps};
