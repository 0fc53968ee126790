//! The one rule of what becomes of a change: pure, `what is there, what comes, now → what is there then`. No
//! store decides for itself.
//!
//! # Layout
//!
//! | module | what |
//! |---|---|
//! | [`change`] | what is asked for, and what became of it |
//! | [`bucket`] | clock and numbers of a bucket, and how they go on |
//! | [`bounds`] | what no change may be beyond |
//! | [`merge`] | what becomes of one change |
//! | [`transaction`] | the steps of a change, on whatever holds a bucket |
//! | [`mark`] | what is kept beside a value |
//! | [`digest`] | the bucket of a record, and its share of the bucket's digest |

pub mod bounds;
pub mod bucket;
pub mod change;
pub mod digest;
pub mod mark;
pub mod merge;
pub mod transaction;

pub use bucket::Bucket;
pub use change::{
    Applied, Batch, CONFLICT_VALUE_MAX, Change, ClockAhead, Condition, Conflict, Outcome, Written,
};
pub use mark::{InvalidMark, Mark, Part, epoch};
pub use merge::Rules;
