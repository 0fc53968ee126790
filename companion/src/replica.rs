//! The one rule of what becomes of a change: pure, `what is there, what comes, now → what is there then`. No
//! store decides for itself.
//!
//! # Layout
//!
//! | module | what |
//! |---|---|
//! | [`change`] | what is asked for, and what became of it |
//! | [`mark`] | what is kept beside a value |
//! | [`digest`] | the bucket of a record, and its share of the bucket's digest |

pub mod change;
pub mod digest;
pub mod mark;

pub use change::{Applied, Batch, Change, Condition, Outcome, Written};
pub use mark::{InvalidMark, Mark, Part, epoch};
