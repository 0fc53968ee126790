//! Data updates that instances announce in their answers → the companion.
//!
//! | module | arrow |
//! |---|---|
//! | [`grammar`] | the value of `x-unitring-update` → announced changes of records |
//! | [`plan`] | mode, announcement, size of the answer → what happens to the answer |
//! | [`queue`] | updates → batches in order, each sent until it is stored, refused or too late |
//! | [`message`] | a batch → JSON; the companion's answer → what became of each update |

pub mod grammar;
pub mod message;
pub mod plan;
pub mod queue;

/// The header of an answer that announces data updates.
pub const HEADER: &str = "x-unitring-update";
