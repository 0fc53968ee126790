//! The messages between the filter and its companion, and between units.
//!
//! Types and their rules only; no I/O, no clock. Every decoded value is valid: ids are checked
//! while they are read, so that no later code has to check them again.
//!
//! # Layout
//!
//! | module | what travels |
//! |---|---|
//! | [`ids`] | names of services, instances, reporters, units, datasets and records |
//! | [`report`] | filter → companion: loads and instance events |
//! | [`snapshot`] | companion → filter: the load of the rest of the fleet |
//! | [`updates`] | filter → companion: data updates, and what became of them |
//! | [`record`] | a record, its version, and an op: one change of it |
//! | [`digest`] | checksums of buckets |
//! | [`trace`] | the context of a trace, which an op has with it |
//! | [`envelope`] | unit → unit: the message around all of it |

#![warn(missing_docs)]

pub mod digest;
pub mod envelope;
pub mod ids;
pub mod record;
pub mod report;
pub mod snapshot;
pub mod trace;
pub mod updates;

/// The version of everything in this crate. A reader refuses a newer version.
pub const PROTOCOL_VERSION: u32 = 1;
