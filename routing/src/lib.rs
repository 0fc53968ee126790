//! Decisions: from a request's hash key and the loads of instances to its candidates.
//!
//! Pure: values in, values out; no I/O, no clock, no randomness. The filter and the companion's
//! `locate` use the same code, so `locate` explains the filter's actual decision.
//!
//! # Layout, in the order of the flow
//!
//! | module | arrow |
//! |---|---|
//! | [`hash`] | bytes → 64 bits |
//! | [`key`] | values of a request → hash key |
//! | [`membership`] | instances before and after → what changed |
//! | [`health`] | the health of instances → the share of keys of each priority |
//! | [`ring`] | eligible instances → ordered map of virtual nodes → owner of a hash |
//! | [`maglev`] | the same with Envoy's Maglev table |
//! | [`names`] | a list of names → the positions of each name |
//! | [`movement`] | two rings → the share of keys that moved |
//! | [`bounded`] | owner and loads → candidates and the reason |
//! | [`table`] | all of it for one service, priority by priority, as the filter and `locate` use it |

#![warn(missing_docs)]

pub mod bounded;
pub mod hash;
pub mod health;
pub mod key;
pub mod maglev;
pub mod membership;
pub mod movement;
pub mod names;
pub mod ring;
pub mod table;
