//! The balancer of one process: from settings and Envoy's clusters to the instance of each request,
//! and from loads to reports.
//!
//! Pure: it knows neither proxy-wasm nor Envoy's module ABI, calls no clock, and does no I/O. Two
//! shells run it inside Envoy: the filter (`plugin/`) and the native module (`native/`).
//!
//! # Layout, in the order of the flow
//!
//! | module | arrow |
//! |---|---|
//! | [`settings`] | JSON → valid settings |
//! | [`json`] | JSON from outside → the fields it wants |
//! | [`headers`] | Envoy's block of headers → names and values, read in place |
//! | [`request`] | a request's headers → its hash key, and headers to remove |
//! | [`discovery`] | Envoy's clusters and their configuration → members, and how they are placed |
//! | [`tally`] | Envoy's counts of each instance → the growth since the last look |
//! | [`drift`] | Envoy's counts, the gauges → the error of each gauge |
//! | [`wiring`] | Envoy's configuration → mistakes, each with its fix |
//! | [`health`] | members, their failures → which are ejected, which warm up |
//! | [`placement`] | settings, Envoy's configuration, members → the rule of the table |
//! | [`directory`] | members → the table, and the stats that count each instance |
//! | [`balancer`] | hash key, gauges, fleet → candidates and the reason |
//! | [`capture`] | data updates that answers announce → the companion |
//! | [`outcome`] | an answer → a success or a failure of its instance |
//! | [`update_load`] | counts of data updates → what they add to an instance's load |
//! | [`threshold`] | loads → overloaded, relieved |
//! | [`reporter`] | loads and events → report; snapshot → fleet |
//! | [`exported`] | stats → the names that Prometheus gets |
//! | [`lease`] | which VM of the process discovers, judges and reports |
//! | [`configurations`] | which of a service's configurations reports, and which others there are |
//! | [`roster`] | which VMs count requests, and how a dead VM's counts are cleared |
//! | [`stored`] | values that VMs share → bytes, and back |

#![warn(missing_docs)]

pub mod balancer;
pub mod capture;
pub mod configurations;
pub mod directory;
pub mod discovery;
pub mod drift;
pub mod exported;
pub mod headers;
pub mod health;
pub mod json;
pub mod lease;
pub mod outcome;
pub mod placement;
pub mod reporter;
pub mod request;
pub mod roster;
pub mod settings;
pub mod stored;
pub mod tally;
pub mod threshold;
pub mod update_load;
pub mod wiring;
