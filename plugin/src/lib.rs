//! The filter: chooses each request's instance inside Envoy, and counts what each carries.
//!
//! # Layout, in the order of the flow
//!
//! | module | arrow |
//! |---|---|
//! | [`settings`] | the filter's JSON → valid settings |
//! | [`json`] | the JSON that the filter is answered with → its wanted fields |
//! | [`headers`] | Envoy's block of headers → names and values, where they lie |
//! | [`request`] | a request's headers → its hash key, and what must be removed |
//! | [`discovery`] | Envoy's clusters, their configuration → members, and how they are placed |
//! | [`tally`] | Envoy's counts of each instance → what has grown |
//! | [`drift`] | Envoy's counts, the gauges → what the gauges are wrong by |
//! | [`wiring`] | Envoy's configuration → mistakes, with their mend |
//! | [`health`] | members, their failures → who is ejected, who warms up |
//! | [`placement`] | settings, Envoy's configuration, members → the rule of the table |
//! | [`directory`] | members → the table, and the stats that count each instance |
//! | [`balancer`] | hash key, gauges, fleet → candidates and the reason |
//! | [`outcome`] | an answer → what it says of its instance |
//! | [`threshold`] | loads → overloaded, relieved |
//! | [`reporter`] | loads and events → report; snapshot → fleet |
//! | [`lease`] | which VM of the process discovers, judges and reports |
//! | [`roster`] | which VMs count, and what a dead one leaves behind |
//! | [`stored`] | what VMs hand to each other → bytes, and back |
//! | `filter` | the only code that sees `proxy_wasm`: it decides nothing |
//!
//! Everything but `filter` is pure and runs in native tests.

pub mod balancer;
pub mod directory;
pub mod discovery;
pub mod drift;
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
pub mod wiring;

#[cfg(target_arch = "wasm32")]
mod filter;
