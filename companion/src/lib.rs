//! The companion: answers load reports with the load of the rest of the fleet, serves the registry
//! to Envoy, and stores records and syncs them with the other units.
//!
//! Public are the program and what other crates test with, so that the compiler sees what is dead.
//!
//! # Layout, in the order of the flow
//!
//! | module | arrow |
//! |---|---|
//! | [`program`] | the program: parses, runs, exits |
//! | `cli` | command line → command |
//! | `client` | questions to a running companion → its answers |
//! | `output` | what commands print |
//! | `doctor` | configurations and answers → findings, each with its mend (pure) |
//! | `demo` | Envoy, the companion and four instances, to try it out |
//! | `top` | what a running companion says → a terminal |
//! | `config` | file, environment, flags → settings |
//! | `serve` | settings → everything below, started and stopped |
//! | `door` | connections → requests that may be answered |
//! | `http` | requests → answers |
//! | `loads` | reports → fleet load (pure) |
//! | `explain` | a report and the loads → where a key goes, and why (pure) |
//! | `events` | what happened to instances |
//! | `registry` | which instances a service has |
//! | `registry_feed` | the registry in the store → its subscribers |
//! | `xds` | registry → Envoy |
//! | `moment` | when something happens, by two clocks |
//! | `replica` | how a change of a record is merged (pure) |
//! | `clock` | the time |
//! | `files` | why a file that a setting names cannot be read, and the way out |
//! | `fixed` | the file of the fixed data → values (pure) |
//! | `store` | stores records, registry, loads and events; each change is one atomic step |
//! | `leadership` | which companion of a unit does the work that only one may do |
//! | `changefeed` | the log of changes → the watchers of records |
//! | `sync` | outbox → broker → the other units, and back |
//! | `states` | the states that answers show, as enums |
//! | `group` | the servers of a unit → created, verified, watched |
//! | `log` | events → lines, with any text in them |
//! | `metrics` | counters and gauges of all of it |
//! | `commit` | which build this is |
//! | `trace` | what a request causes, here and in other units → a collector of spans |
//! | [`testing`] | what tests of other crates use |

// Whoever reads about the inside of a program reads about private items, too.
#![allow(rustdoc::private_intra_doc_links)]

mod changefeed;
mod cli;
mod client;
mod clock;
mod commit;
mod config;
mod demo;
mod doctor;
mod door;
mod events;
mod explain;
mod files;
mod fixed;
mod group;
mod http;
mod leadership;
mod loads;
mod log;
mod metrics;
mod moment;
mod output;
pub mod program;
mod registry;
mod registry_feed;
mod replica;
mod serve;
mod states;
mod store;
mod sync;
pub mod testing;
mod tls;
mod top;
mod trace;
mod xds;
