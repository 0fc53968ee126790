//! The companion: takes load reports and answers with the load of the rest of the fleet, keeps the
//! registry and hands it to Envoy, keeps records and has its unit hold the same as the others.
//!
//! # Layout, in the order of the flow
//!
//! | module | arrow |
//! |---|---|
//! | [`cli`] | command line → what to do |
//! | [`mod@demo`] | Envoy, the companion and four instances, to try it out |
//! | [`config`] | file, environment, flags → settings |
//! | [`serve`] | settings → everything below, started and stopped |
//! | [`http`] | requests → answers |
//! | [`loads`] | reports → fleet load (pure) |
//! | [`explain`] | a report and the loads → where a key goes, and why (pure) |
//! | [`events`] | what happened to instances |
//! | [`registry`] | which instances a service has |
//! | [`registry_feed`] | the registry in the store → those who wait for it |
//! | [`xds`] | registry → Envoy |
//! | [`replica`] | what becomes of a change of a record (pure) |
//! | [`fixed`] | the file of the fixed data → values (pure) |
//! | [`store`] | records, registry, loads and events, kept; each change is one atomic step |
//! | [`leadership`] | which of several companions of a unit does what only one shall do |
//! | [`changefeed`] | the log of changes → those who watch records |
//! | [`sync`] | outbox → broker → the other units, and back |
//! | [`group`] | the servers of a unit → created, verified, looked at |
//! | [`metrics`] | all of it, counted |

pub mod changefeed;
pub mod cli;
pub mod config;
pub mod demo;
pub mod events;
pub mod explain;
pub mod fixed;
pub mod group;
pub mod http;
pub mod leadership;
pub mod loads;
pub mod metrics;
pub mod registry;
pub mod registry_feed;
pub mod replica;
pub mod serve;
pub mod store;
pub mod sync;
pub mod tls;
pub mod xds;

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock, in milliseconds since the Unix epoch. Only shells ask it.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
